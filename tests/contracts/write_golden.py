"""Write the golden files anew from the examples: ``python tests/contracts/write_golden.py``."""

from golden_examples import EXAMPLES, GOLDEN, golden_file, written


def main() -> None:
    GOLDEN.mkdir(exist_ok=True)
    for old in GOLDEN.glob("*.json"):
        old.unlink()
    for message in EXAMPLES:
        golden_file(message).write_text(written(message), encoding="utf-8")


if __name__ == "__main__":
    main()
