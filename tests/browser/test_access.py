"""For everybody: keyboards, screen readers, phones, dark rooms."""

import pytest

from browser.conftest import OpenTab
from browser.page import Page
from browser.people import ADDRESS, Person

# What is wrong with the page, a line for each: names, labels, landmarks, headings, ids, contrast (WCAG 2.2).
_AUDIT = """
(() => {
  const wrong = [];
  const seen = (element) => element.checkVisibility({ visibilityProperty: true, opacityProperty: true });
  const all = (selector) => [...document.querySelectorAll(selector)].filter(seen);
  const tell = (element) => element.outerHTML.slice(0, 120);
  const name = (element) => (element.getAttribute("aria-label") ?? element.textContent).trim();
  for (const control of all("input, select, textarea")) {
    if (!control.labels.length && !control.getAttribute("aria-label")) wrong.push(`no label: ${tell(control)}`);
  }
  for (const image of all("img")) if (!image.hasAttribute("alt")) wrong.push(`no alt: ${tell(image)}`);
  for (const one of all("a, button, summary")) if (!name(one)) wrong.push(`no name: ${tell(one)}`);
  if (all("h1").length !== 1) wrong.push(`${all("h1").length} h1`);
  for (const landmark of ["header", "main", "footer"]) {
    if (document.querySelectorAll(`body > ${landmark}`).length !== 1) wrong.push(`not one ${landmark}`);
  }
  let level = 0;
  for (const heading of all("h1, h2, h3, h4")) {
    const next = Number(heading.tagName[1]);
    if (next > level + 1 && level) wrong.push(`h${level} before h${next}: ${tell(heading)}`);
    level = next;
  }
  const ids = [...document.querySelectorAll("[id]")].map((element) => element.id);
  for (const id of ids) if (ids.indexOf(id) !== ids.lastIndexOf(id)) wrong.push(`twice: #${id}`);
  for (const attribute of ["aria-labelledby", "aria-describedby"]) {
    for (const element of document.querySelectorAll(`[${attribute}]`)) {
      for (const id of element.getAttribute(attribute).split(" ")) {
        if (!document.getElementById(id)) wrong.push(`${attribute} names nothing: ${id}`);
      }
    }
  }
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const pixel = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return canvas.getImageData(0, 0, 1, 1).data;
  };
  const linear = (part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  const light = (colour) => {
    const [r, g, b] = [...pixel(colour)].map((part) => linear(part / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (element) => {
    for (let one = element; one; one = one.parentElement) {
      const colour = getComputedStyle(one).backgroundColor;
      if (pixel(colour)[3] === 255) return colour;
    }
    return "white";
  };
  const written = (element) => [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
  for (const element of all("body *").filter(written)) {
    if (element.closest(".skip, .toast, .visually-hidden, option, .picture")) continue;
    const style = getComputedStyle(element);
    const [dark, bright] = [light(style.color), light(ground(element))].sort((one, other) => one - other);
    const ratio = (bright + 0.05) / (dark + 0.05);
    const size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
    if (ratio < (large ? 3 : 4.5)) wrong.push(`contrast ${ratio.toFixed(2)}: ${tell(element)}`);
  }
  const width = document.documentElement.scrollWidth;
  if (width > innerWidth) wrong.push(`${width} px wide`);
  return wrong;
})()
"""

CUSTOMER_VIEWS = ["#/", "#/products/3", "#/cart", "#/checkout", "#/orders", "#/orders/{id}?placed=1", "#/account"]
STAFF_VIEWS = [
    *("#/desk", "#/desk/orders/{id}", "#/desk/customers/{user}", "#/desk/slips?ids={id}"),
    *("#/desk/mails", "#/desk/users", "#/desk/figures", "#/desk/system", "#/desk/dead-letters"),
]
OPEN_VIEWS = ["#/sign-in", "#/register", "#/forgot", "#/reset", "#/nowhere"]


async def audit(page: Page, views: list[str]) -> dict[str, list[str]]:
    """What is wrong with each view, at each size and in each colour scheme."""
    found = {}
    for view in views:
        await page.go(view)
        for width, dark in ((1280, False), (390, True), (390, False), (1280, True)):
            await page.look(width=width, dark=dark)
            found[f"{view} {width} {'dark' if dark else 'light'}"] = await page.run(_AUDIT)
    return {name: wrong for name, wrong in found.items() if wrong}


@pytest.mark.parametrize("who", ["nobody", "customer", "staff"])
async def test_every_view_is_readable_for_everybody(
    tab: OpenTab, customer: Person, staff: Person, who: str
) -> None:
    order = await customer.place()
    async with tab() as page:
        if who == "nobody":
            await page.open("/#/cart")
            assert await audit(page, OPEN_VIEWS) == {}
            return
        await (customer if who == "customer" else staff).sign_in(page, "#/products/1")
        await page.click("button", "Add to cart: Ondulo Murmur One Wireless Headphones")
        views = CUSTOMER_VIEWS if who == "customer" else STAFF_VIEWS
        assert await audit(page, [view.format(id=order["id"], user=customer.id) for view in views]) == {}


async def test_an_order_is_placed_without_a_mouse(tab: OpenTab, customer: Person) -> None:
    await customer.call("POST", f"/user/{customer.id}/addresses", json=ADDRESS)
    async with tab() as page:
        await customer.sign_in(page)
        await page.open("/")
        await page.tab_to("Skip to content")
        await page.press("Enter")
        assert await page.run("document.activeElement.id") == "main"
        await page.tab_to("Search products")
        await page.type("gooseneck")
        await page.tab_to("Kettlewick Gooseneck 800 Pour-Over Kettle")
        await page.press("Enter")
        await page.until("document.activeElement.tagName === 'H1'", "the focus on the new view's heading")
        await page.tab_to("Add to cart: Kettlewick Gooseneck 800 Pour-Over Kettle")
        await page.press("Enter")
        status = "document.querySelector('#status').textContent"
        await page.until(f"{status}.includes('was added to your cart')", "the message")
        await page.go("#/cart")
        await page.tab_to("Check out")
        await page.press("Enter")
        await page.until("document.title === 'Checkout · Purveyor'")
        await page.tab_to("Place order")
        await page.press("Enter")
        await page.sees("Thank you for your order!")
        assert await page.run("document.activeElement.tagName") == "H1"
    assert len(await customer.orders()) == 1
