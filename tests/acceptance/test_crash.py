"""``kill -9`` at the worst moments: what was answered 201 is kept, and its mail comes, once."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from mailboxes import MailFolder
from own_processes import Processes, own_processes
from running import Running, public_client
from server_shapes import PATIENT
from shop import Shop

SETTLE_S = 1.5


@asynccontextmanager
async def visiting(processes: Processes, name: str) -> AsyncIterator[Shop]:
    """The shop that one of the processes serves."""
    mailbox = MailFolder(processes.folder / "data" / "mailbox")
    async with public_client(processes.ports[name]) as client:
        yield Shop(Running({"/": client}, processes.settings, processes.folder, mailbox.read))


async def test_an_order_answered_before_a_crash_is_kept_and_confirmed_once(tmp_path: Path) -> None:
    async with own_processes(tmp_path, **PATIENT) as processes:
        processes.start("front", "serve", "auth,orders")
        await processes.ready("front")
        async with visiting(processes, "front") as shop:
            ada = await shop.customer()
            first = await shop.place(ada, [(1, 2)], key="k")
            await processes.crash("front")
        assert first.status_code == 201
        processes.start("front", "serve", "auth,orders")
        processes.start("mails", "worker", "email")
        await processes.ready("front", "mails")
        async with visiting(processes, "front") as shop:
            assert (await shop.get(ada, first.json()["id"])).json() == first.json()
            again = await shop.place(ada, [(1, 2)], key="k")
            assert (again.content, again.headers["idempotent-replayed"]) == (first.content, "true")
            await shop.mails(ada.email)
            await asyncio.sleep(SETTLE_S)
            (mail,) = await shop.mails(ada.email)
            assert str(first.json()["order_number"]) in mail.subject


async def test_a_crash_amid_many_mails_loses_none_and_doubles_none_in_secret(tmp_path: Path) -> None:
    async with own_processes(tmp_path, **PATIENT) as processes:
        processes.start("all", "serve", "auth,orders,email")
        await processes.ready("all")
        async with visiting(processes, "all") as shop:
            ada = await shop.customer()
            answers = await asyncio.gather(*(shop.placed(ada, [(1 + n, 1)]) for n in range(30)))
            await processes.crash("all")
        processes.start("all", "serve", "auth,orders,email")
        await processes.ready("all")
        async with visiting(processes, "all") as shop:
            await shop.mails(ada.email, at_least=30)
            await asyncio.sleep(SETTLE_S)
            mails = await shop.mails(ada.email, at_least=30)
            for answer in answers:
                number = answer.json()["order_number"]
                sent = [mail for mail in mails if str(number) in mail.subject]
                assert sent
                assert len({mail.content for mail in sent}) == 1
            for message_id, times in Counter(mail.message_id for mail in mails).items():
                if times > 1:  # it was handed over when the crash came: sent again, and that is on record
                    assert times == 2
                    (mail, _) = [mail for mail in mails if mail.message_id == message_id]
                    number = next(
                        a.json()["order_number"] for a in answers if str(a.json()["order_number"]) in mail.subject
                    )
                    assert "sent again 1 times" in await shop.trace(number)
