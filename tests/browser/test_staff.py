"""The order desk."""

import zipfile
from pathlib import Path

from browser.conftest import OpenTab
from browser.people import Person
from waiting import until


async def test_orders_are_filtered(tab: OpenTab, customer: Person, staff: Person) -> None:
    first, second = await customer.place(), await customer.place(2)
    rows = "[...document.querySelectorAll('.desk tbody th')].map((cell) => Number(cell.textContent))"
    async with tab() as page:
        await staff.sign_in(page, "#/desk")
        await page.fill("Search", customer.email)
        await page.click("button", "Search")
        await page.sees("Clear filters")  # the list may have had just these two rows before, and is made anew
        await page.until(f"{rows}.length === 2")
        assert await page.run(rows) == [second["order_number"], first["order_number"]]
        await page.sees(customer.email)
        await page.choose("Sort by", "created_at")
        await page.until(f"{rows}[0] === {first['order_number']}")
        await page.fill("Search", str(first["order_number"]))
        await page.press("Enter")
        await page.until(f"{rows}.length === 1")
        await page.choose("Status", "delivered")
        await page.sees("No orders match these filters.")
        await page.click("a", "Clear filters")
        await page.until(f"{rows}.length >= 2")


async def test_an_order_is_moved_on_and_a_stale_decision_is_not_made(
    tab: OpenTab, customer: Person, staff: Person
) -> None:
    order = await customer.place()
    async with tab() as page:
        await staff.sign_in(page, f"#/desk/orders/{order['id']}")
        await page.click("button", "Confirm")
        await page.sees("Mark as shipped")
        await page.sees("by Grace Hopper")
        async with page.holding("PATCH", "*/api/orders/*", "Request") as held:
            await page.click("button", "Mark as paid")
            request = await held.next()
            await staff.change(order["id"], status="shipped")
            await held.release(request)
        await page.sees("The order was changed by someone else")
        page.forgive("412")
        await page.sees("Mark as delivered")
        await page.click("button", "Mark as paid")
        await page.sees("Mark as refunded")
    changed = (await customer.orders())[0]
    assert (changed["status"], changed["payment_status"]) == ("shipped", "paid")


async def test_orders_are_saved_as_files(tab: OpenTab, customer: Person, staff: Person, tmp_path: Path) -> None:
    order = await customer.place()
    await customer.place()
    async with tab() as page:
        await staff.sign_in(page, f"#/desk?q={order['order_number']}")
        for label, name in (
            ("Export CSV", "orders.csv"),
            ("Export Excel", "orders.xlsx"),
            ("Export items", "items.xlsx"),
        ):
            await page.click("button", label)
            await page.sees(f"saved as {name}")
            await until((tmp_path / name).exists)
    lines = (tmp_path / "orders.csv").read_text(encoding="utf-8").strip().splitlines()
    assert len(lines) == 2
    assert str(order["order_number"]) in lines[1]
    assert zipfile.is_zipfile(tmp_path / "orders.xlsx")
    assert zipfile.is_zipfile(tmp_path / "items.xlsx")


async def test_filters_are_folded_on_a_phone_and_refuse_a_time_that_ends_before_it_begins(
    tab: OpenTab, staff: Person
) -> None:
    shown = "document.querySelector('[name=sort]').checkVisibility()"
    async with tab() as page:
        await staff.sign_in(page, "#/desk")
        await page.until(shown)
        await page.look(width=375, height=700)
        await page.until(f"!{shown}")
        await page.click("summary", "Filters")
        await page.run("document.querySelector('[name=from]').value = '2026-02-02'")
        await page.run("document.querySelector('[name=to]').value = '2026-02-01'")
        await page.click("button", "Search")
        await page.sees("The last day must not be before the first.")


async def test_customers_do_not_get_to_the_desk(tab: OpenTab, customer: Person) -> None:
    async with tab() as page:
        await customer.sign_in(page)
        assert await page.run("document.querySelector('#nav-desk').hidden")
        await page.go("#/account")
        await page.go("#/desk", lands="#/")


async def test_a_mail_is_sent_again(tab: OpenTab, customer: Person, staff: Person) -> None:
    order = await customer.place()
    async with tab() as page:
        await staff.sign_in(page, f"#/desk/orders/{order['id']}")
        await page.sees("Order confirmation sent")
        await page.click("button", f"Resend: Order confirmation to {customer.email}")
        await page.until("document.querySelectorAll('.mail-shown').length === 2", "the second copy in the mailbox")
        await page.go("#/desk/mails?state=sent")
        await page.sees(f"Order {order['order_number']}")
        await page.go("#/desk/system")
        await page.sees("All events were handled.")
        assert await page.run(
            "[...document.querySelectorAll('.chips [aria-current]')].map((one) => one.textContent)"
        ) == ["System"]
