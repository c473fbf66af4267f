"""A customer's way through the shop: from the catalogue to the order, and what becomes of it."""

import httpx

from browser.conftest import ROLES, OpenTab
from browser.page import Page
from browser.people import ADDRESS, PASSWORD, Person, new_email
from own_processes import Processes

PHONE = "Orvanne Lyra 5 Smartphone"


async def fill_address(page: Page) -> None:
    await page.fill("Address", ADDRESS["line1"])
    await page.fill("Postal code", ADDRESS["postal_code"])
    await page.fill("City", ADDRESS["city"])
    await page.choose("Country", ADDRESS["country"])


async def fill_cart(page: Page) -> None:
    """With one phone."""
    await page.go("#/products/3")
    await page.click("button", f"Add to cart: {PHONE}")
    await page.sees(f"{PHONE} was added to your cart.")


async def test_the_catalogue_is_searched_and_sorted(tab: OpenTab) -> None:
    async with tab() as page:
        await page.open("/")
        await page.sees("150 products")
        await page.click("a", "Audio")
        await page.until("document.title === 'Audio · Purveyor'")
        titles = "[...document.querySelectorAll('.card h2')].map((title) => title.textContent)"
        await page.fill("Search products", "wireless EARBUDS")
        await page.until(f"{titles}.length < 5 && {titles}.every((title) => /Earbuds/.test(title))")
        assert "q=wireless" in await page.run("location.hash")
        await page.fill("Search products", "no such thing at all")
        await page.sees("No products found")
        await page.click("a", "Show all products")
        await page.sees("150 products")
        await page.choose("Sort by", "price")
        prices = await page.run("[...document.querySelectorAll('.card .price')].map((price) => price.textContent)")
        amounts = [float(price.replace("€", "").replace(",", "")) for price in prices]
        assert len(amounts) > 10
        assert amounts == sorted(amounts)


async def test_from_signing_up_to_the_delivered_order(
    tab: OpenTab, client: httpx.AsyncClient, staff: Person
) -> None:
    email = new_email("ada")
    async with tab() as page:
        await page.open("/")
        await fill_cart(page)
        await page.click("a", "Cart, 1 item")
        await page.sees("€199.00 each")
        await page.click("a", "Check out")
        await page.click("a", "Create account")
        await page.fill("Name", "Ada Lovelace")
        await page.fill("Email", email)
        await page.fill("Password", "short")
        await page.click("button", "Create account")
        await page.until("document.activeElement.getAttribute('aria-invalid') === 'true'", "the field to mend")
        await page.sees("Enter at least 8 characters.")
        await page.fill("Password", PASSWORD)
        await page.click("button", "Create account")
        await page.sees("Shipping address")
        await fill_address(page)
        await page.click("button", "Place order")
        await page.sees("Thank you for your order!")
        await page.until("document.querySelector('#live-state').textContent === 'Live'")
        order_id = await page.run("location.hash.match(/orders\\/([^?]+)/)[1]")
        await page.sees("Order confirmation sent")
        await page.sees("Ada Lovelace")

        await staff.change(order_id, status="confirmed")
        await page.until("/Confirmed/.test(document.querySelector('#timeline').textContent)", "the live entry")
        await staff.change(order_id, status="shipped", payment_status="paid")
        await page.until(
            "document.querySelector('.order-head .status').textContent === 'Shipped'", "the new status"
        )
        timeline = await page.run("document.querySelector('#timeline').innerText")
        assert timeline.index("Order placed") < timeline.index("Confirmed") < timeline.index("Shipped")
        assert await page.run("document.querySelector('.cancel')") is None
        await page.until("document.querySelectorAll('.mail-shown').length >= 1", "the mail in the mailbox")


async def test_an_order_is_cancelled_with_a_reason(tab: OpenTab, customer: Person) -> None:
    order = await customer.place()
    async with tab() as page:
        await customer.sign_in(page, "#/orders")
        await page.click("a", f"Order {order['order_number']}")
        await page.click("summary", "Cancel order")
        await page.fill("Reason", "Bought <b>twice</b>")
        await page.click("button", "Cancel order")
        await page.until("document.querySelector('.order-head .status').textContent === 'Cancelled'")
        await page.sees("“Bought <b>twice</b>”")
        await page.sees("by you")
    assert [one["status"] for one in await customer.orders()] == ["cancelled"]


async def test_a_large_order_by_transfer_says_how_to_pay_and_fits_a_phone(tab: OpenTab, customer: Person) -> None:
    body = {"items": [{"product_id": 10, "quantity": 1000}], "payment_method": "bank_transfer"}
    order = (await customer.call("POST", "/api/orders/", json=body)).json()
    async with tab() as page:
        await page.look(width=375, height=700)
        await customer.sign_in(page, f"#/orders/{order['id']}")
        await page.sees("Please transfer €899,000.00 to this account")
        await page.sees("IBAN DE02")
        assert await page.run("document.documentElement.scrollWidth") == 375
        await customer.call("POST", f"/api/orders/{order['id']}/cancel", json={})
        await page.until("!document.body.innerText.includes('IBAN DE02')")


async def test_an_order_whose_answer_is_lost_is_placed_once(tab: OpenTab, customer: Person) -> None:
    async with tab() as page:
        await customer.sign_in(page)
        await fill_cart(page)
        await page.go("#/checkout")
        await fill_address(page)
        async with page.holding("POST", "*/api/orders/", "Response") as held:
            await page.click("button", "Place order")
            await held.lose(await held.next())
        await page.sees("Cannot reach the shop")
        page.forgive("ERR_CONNECTION_RESET")
        assert len(await customer.orders()) == 1
        await page.reload()
        await page.sees("Thank you for your order!")
        assert await page.run("document.querySelector('#cart-count').hidden")
    assert len(await customer.orders()) == 1


async def test_a_double_click_places_one_order(tab: OpenTab, customer: Person) -> None:
    async with tab() as page:
        await customer.sign_in(page)
        await fill_cart(page)
        await page.go("#/checkout")
        await fill_address(page)
        await page.run(
            "[1, 2].forEach(() => [...document.querySelectorAll('button')]"
            ".find((button) => button.textContent.startsWith('Place order'))?.click())"
        )
        await page.sees("Thank you for your order!")
        assert [method for method, url in page.requests if url.endswith("/api/orders/")].count("POST") == 1
    assert len(await customer.orders()) == 1


OLD_PRICES = """
const now = window.fetch;
window.fetch = async (...request) => {
  const answer = await now(...request);
  if (!String(request[0]).includes("/api/products")) return answer;
  const body = await answer.json();
  for (const product of body.products ?? [body]) product.price = 10;
  return new Response(JSON.stringify(body), { headers: answer.headers });
};"""


async def test_a_changed_price_is_shown_before_it_is_paid(tab: OpenTab, customer: Person) -> None:
    async with tab() as page:
        await page.call("Page.addScriptToEvaluateOnNewDocument", source=OLD_PRICES)
        await customer.sign_in(page)
        await fill_cart(page)
        await page.go("#/checkout")
        await fill_address(page)
        await page.until("/€10.00/.test(document.querySelector('.summary').textContent)", "the old price")
        await page.click("button", "Place order")
        await page.sees("Prices have changed")
        await page.sees("The total is now €199.00.")
        page.forgive("409")
        assert await customer.orders() == []
        assert "€199.00" in await page.run("document.querySelector('.summary').textContent")
        assert await page.run("document.querySelector('.sum strong').textContent") == "€199.00"
        await page.click("button", "Place order")
        await page.sees("Thank you for your order!")
    assert [order["total_amount"] for order in await customer.orders()] == [199]


async def test_what_the_api_refuses_is_said_at_the_field(tab: OpenTab, customer: Person) -> None:
    async with tab() as page:
        await customer.sign_in(page)
        await fill_cart(page)
        await page.go("#/checkout")
        await fill_address(page)
        await page.fill("Phone", "not a number")
        await page.click("button", "Place order")
        await page.until("document.querySelector('[name=phone][aria-invalid]')", "the field")
        described = await page.run(
            "document.querySelector('[name=phone]').getAttribute('aria-describedby').split(' ')"
            ".map((id) => document.getElementById(id)?.textContent ?? 'MISSING').join(' | ')"
        )
        assert "MISSING" not in described
        assert "phone" in described
        page.forgive("422")
    assert await customer.orders() == []


async def test_older_orders_are_a_click_away(tab: OpenTab, customer: Person) -> None:
    placed = [(await customer.place())["order_number"] for _ in range(23)]
    numbers = (
        "[...document.querySelectorAll('.order-row strong')].map((name) => Number(name.textContent.slice(6)))"
    )
    async with tab() as page:
        await customer.sign_in(page, "#/orders")
        assert await page.run(numbers) == placed[:2:-1]
        await page.click("button", "Show older orders")
        await page.until(f"{numbers}.length === 23")
        assert await page.run(numbers) == placed[::-1]


async def test_another_tab_signs_out_too_and_the_way_back_is_kept(tab: OpenTab, customer: Person) -> None:
    async with tab() as page:
        await customer.sign_in(page, "#/account")
        await page.click("button", "Sign out")
        await page.sees("150 products")
        await page.go("#/orders", lands="#/sign-in")
        assert await page.run("location.hash") == "#/sign-in?next=%23%2Forders"
        await page.fill("Email", customer.email)
        await page.fill("Password", PASSWORD)
        await page.click("button", "Sign in")
        await page.sees("No orders yet")


async def test_the_timeline_goes_on_after_a_restart_of_the_server(
    tab: OpenTab, customer: Person, staff: Person, processes: Processes
) -> None:
    order = await customer.place()
    steps = "[...document.querySelectorAll('.step-what')].map((step) => step.textContent)"
    async with tab() as page:
        await customer.sign_in(page, f"#/orders/{order['id']}")
        await page.sees("Order confirmation sent")
        await page.until("document.querySelector('#live-state').textContent === 'Live'")
        await processes.end("shop")
        await page.sees("Reconnecting…")
        processes.start("shop", "serve", ROLES)
        await processes.ready("shop")
        await staff.change(order["id"], status="confirmed")
        await page.sees("Order acceptance sent")
        assert await page.run(steps) == [
            "Order placed",
            "Order confirmation sent",
            "Confirmed",
            "Order acceptance sent",
        ]
        page.troubles[:] = [trouble for trouble in page.troubles if "Failed to load resource" not in trouble]
