"""The order desk: undo, many orders at once, packing slips, notes, corrections, users, and the keyboard."""

import httpx
import pytest_asyncio

from browser.conftest import OpenTab
from browser.people import Person, new_person, new_staff
from own_processes import Processes

_RECORD_ANNOUNCEMENTS = """
window.announced = [];
new MutationObserver((changes) => changes.flatMap((change) => [...change.addedNodes]).forEach((node) => {
  if (node.parentElement.closest("[aria-live=off]")) return;
  const text = (node.querySelector?.("span") ?? node).firstChild?.textContent ?? node.textContent;
  if (node.parentElement.closest("[role=status], [aria-live=polite]")) announced.push(text.trim());
})).observe(document.body, { childList: true, subtree: true, characterData: true });
"""
"""Collects what a screen reader is told."""

ROWS = "[...document.querySelectorAll('.desk tbody th')].map((cell) => Number(cell.textContent))"


@pytest_asyncio.fixture(scope="session")
async def admin(client: httpx.AsyncClient, processes: Processes) -> Person:
    return await new_staff(client, processes, "admin")


async def test_a_wrong_click_is_undone_before_its_mail_leaves(
    tab: OpenTab, customer: Person, staff: Person
) -> None:
    order = await customer.place()
    async with tab() as page:
        await staff.sign_in(page, f"#/desk/orders/{order['id']}")
        await page.click("button", "Confirm")
        await page.sees("Email leaves in")
        await page.reload()
        await page.sees("Email leaves in")
        await page.click("button", f"Undo order {order['order_number']}")
        await page.sees("Change undone")
        await page.until("!document.body.innerText.includes('Email leaves in')")
        assert (await customer.orders())[0]["status"] == "pending"
        await page.click("summary", "Cancel order")
        await page.click("button", "Cancel order")
        await page.click("button", f"Undo order {order['order_number']}")
        await page.until("document.querySelectorAll('.step.undone').length === 2", "the second undo")
    assert (await customer.orders())[0]["status"] == "pending"


async def test_a_change_is_announced_once(tab: OpenTab, customer: Person, staff: Person, admin: Person) -> None:
    order = await customer.place()
    number = order["order_number"]
    await admin.change(order["id"], payment_status="paid")
    async with tab() as page:
        await staff.sign_in(page, f"#/desk/orders/{order['id']}")
        await page.sees("Order confirmation sent")
        await page.run(_RECORD_ANNOUNCEMENTS)
        await page.click("button", "Mark as refunded")
        await page.until("document.querySelector('.step.refunded')", "the live entry")
        await page.click("button", f"Undo order {number}")
        await page.until("document.querySelector('.step.undone')", "the live entry of the undo")
        await admin.change(order["id"], status="confirmed")
        await page.until("announced.includes('Confirmed')", "what a colleague did")
        assert await page.run("announced") == [
            f"Order {number}: refunded.",
            f"Order {number}: the change was undone. No email was sent.",
            "Confirmed",
        ]


async def test_many_orders_are_confirmed_undone_and_printed(tab: OpenTab, customer: Person, staff: Person) -> None:
    orders = [await customer.place() for _ in range(3)]
    numbers = [order["order_number"] for order in orders][::-1]
    async with tab() as page:
        await staff.sign_in(page, f"#/desk?q={customer.email}")
        await page.until(f"{ROWS}.length === 3")
        await page.run("document.querySelector('[aria-label=\"Select all orders shown\"]').click()")
        await page.sees("3 orders selected")
        await page.click("button", "Confirm")
        await page.sees("3 of 3 orders: 3 done, 0 unchanged, 0 failed.")
        assert await page.run(ROWS) == numbers
        await page.click("button", "Undo all")
        await page.until("document.querySelector('h1').textContent === 'Undo changes'")
        await page.sees("3 of 3 orders: 3 done")
        await page.click("a", "Print packing slips")
        await page.until("document.querySelectorAll('.slip').length === 3")
        printed = "[...document.querySelectorAll('.slip dd:nth-of-type(1)')].map((one) => +one.textContent)"
        assert await page.run(printed) == numbers
        await page.call("Emulation.setEmulatedMedia", media="print")
        around = "[...document.querySelectorAll('header.bar, footer, .no-print')]"
        assert not await page.run(f"{around}.some((one) => one.checkVisibility())")
        assert "€" not in await page.run("document.querySelector('.slip').innerText")
        await page.call("Emulation.setEmulatedMedia", media="")
        await page.click("a", "Back to the orders")
        await page.until(f"document.querySelector('.desk') && {ROWS}.length === 3", "the orders with their filter")
    assert {order["status"] for order in await customer.orders()} == {"pending"}


async def test_back_leads_to_the_same_place(tab: OpenTab, customer: Person, staff: Person) -> None:
    for _ in range(12):
        await customer.place()
    async with tab() as page:
        await staff.sign_in(page, f"#/desk?q={customer.email}&sort=created_at")
        await page.until(f"{ROWS}.length === 12")
        await page.run("scrollTo(0, 300)")
        await page.until("history.state?.y === 300")
        await page.run("document.querySelectorAll('.desk tbody th a')[5].click()")
        await page.sees("Next steps")
        assert await page.run("scrollY") == 0
        await page.run("history.back()")
        await page.until(f"document.querySelector('.desk') && {ROWS}.length === 12")
        await page.until("scrollY === 300")
        assert await page.run("document.querySelector('[name=sort]').value") == "created_at"


async def test_the_desk_is_used_without_a_mouse(tab: OpenTab, customer: Person, staff: Person) -> None:
    orders = [await customer.place() for _ in range(2)]
    async with tab() as page:
        await staff.sign_in(page, f"#/desk?q={customer.email}")
        await page.until(f"{ROWS}.length === 2")
        await page.press("?")
        await page.sees("Keyboard shortcuts")
        await page.press("Escape")
        await page.until("!document.querySelector('dialog')")
        await page.press("j")
        await page.press("j")
        await page.press("c")
        await page.until("document.querySelectorAll('.desk .confirmed').length === 1", "the confirmed order")
        await page.press("s")
        await page.until("document.querySelectorAll('.desk .shipped').length === 1", "the shipped order")
        await page.press("k")
        await page.press("x")
        await page.sees("1 order selected")
        await page.press("Enter")
        await page.shows(f"/desk/orders/{orders[1]['id']}")
        await page.press("c")
        await page.sees("Mark as shipped")
        await page.press("/")
        await page.shows("/desk")
        await page.until("document.activeElement.name === 'q'")
    assert [order["status"] for order in await customer.orders()] == ["confirmed", "shipped"]


async def test_notes_are_kept_for_colleagues_and_an_admin_corrects(
    tab: OpenTab, customer: Person, staff: Person, admin: Person
) -> None:
    order = await customer.place()
    await staff.change(order["id"], status="confirmed")
    await staff.change(order["id"], status="shipped")
    async with tab() as page:
        await staff.sign_in(page, f"#/desk/orders/{order['id']}")
        await page.fill("Note", "Called the customer.")
        await page.click("button", "Add note")
        await page.until("document.querySelector('.note-text')?.textContent === 'Called the customer.'")
        assert not await page.run("document.body.innerText.includes('Correct order')")
    async with tab() as page:
        await admin.sign_in(page, f"#/desk/orders/{order['id']}")
        await page.sees("Called the customer.")
        await page.click("button", "Mark as paid")
        await page.sees("Email leaves in")
        await page.click("summary", "Correct order")
        await page.choose("Right status", "confirmed")
        await page.fill("Why", "wrong order")
        await page.click("button", "Correct order")
        await page.sees("shipped to confirmed: wrong order")
        await page.until(
            "!document.querySelector('.undo-line')", "the end of the offer to undo what was corrected"
        )
        await page.click("a", "Ada Lovelace")
        await page.shows(f"/desk/customers/{customer.id}")
        await page.sees("Emails about the newest orders")
        await page.sees(customer.email)
    async with tab() as page:
        await customer.sign_in(page, f"#/orders/{order['id']}")
        await page.sees("Corrected")
        text = await page.run("document.body.innerText")
        assert "wrong order" not in text
        assert "Called" not in text


async def test_an_admin_says_who_is_staff(tab: OpenTab, client: httpx.AsyncClient, admin: Person) -> None:
    person = await new_person(client, "colleague", "Alan Turing")
    async with tab() as page:
        await admin.sign_in(page, "#/desk/users")
        await page.fill("Name or email", person.email)
        await page.click("button", "Search")
        await page.until("document.querySelectorAll('.users tbody tr').length === 1")
        await page.run(
            "((select) => { select.value = 'staff'; select.dispatchEvent(new Event('change')); })"
            "(document.querySelector('.users select'))"
        )
        await page.sees("Alan Turing: staff.")
        await page.click("button", "Block")
        await page.sees("Alan Turing: staff, blocked.")
    users = (await admin.call("GET", "/users", params={"q": person.email})).json()["users"]
    assert [(user["role"], user["blocked"]) for user in users] == [("staff", True)]


async def test_a_customer_who_became_staff_gets_the_desk_with_the_next_page(
    tab: OpenTab, client: httpx.AsyncClient, admin: Person
) -> None:
    person = await new_person(client, "promoted", "Alan Turing")
    async with tab() as page:
        await person.sign_in(page)
        assert await page.run("document.querySelector('#nav-desk').hidden")
        await admin.call("PATCH", f"/user/{person.id}/access", json={"role": "staff"})
        await page.reload()
        await page.click("a", "Order desk")
        await page.shows("/desk")
        await page.sees("To confirm")
        page.troubles.clear()  # an access token with the old role may have been refused once


async def test_an_unknown_order_leads_back_to_the_desk(tab: OpenTab, staff: Person) -> None:
    async with tab() as page:
        await staff.sign_in(page, "#/desk/orders/abc")
        await page.sees("There is no such order.")
        page.forgive("404")
        await page.click("a", "Back to the orders")
        await page.shows("/desk")


async def test_the_figures_are_drawn(tab: OpenTab, customer: Person, staff: Person) -> None:
    await customer.place()
    async with tab() as page:
        await staff.sign_in(page, "#/desk/figures?days=7")
        await page.until("document.querySelectorAll('svg.plot').length === 3")
        await page.sees("Cancelled and refunded orders count as orders, not as revenue.")
        assert await page.run("document.querySelectorAll('svg.plot')[0].querySelectorAll('rect').length") == 7
        await page.click("summary", "Table")
        await page.until("document.querySelectorAll('.plain tbody tr').length === 7")
