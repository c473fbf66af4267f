"""What the page copes with: no storage, many tabs, many products, foreign descriptions, other languages."""

import json
import re
from importlib.resources import files
from pathlib import Path

import pytest

from browser.chromium import Chromium
from browser.conftest import OpenTab
from browser.page import Page, open_pages
from browser.people import ADDRESS, Person
from own_processes import Processes
from purveyor.roles.email.mail_models import KINDS
from waiting import until

STATIC = Path(str(files("purveyor.roles.shop") / "static"))
PHONE = "Orvanne Lyra 5 Smartphone"
ADD_PHONE = f"Add to cart: {PHONE}"
DENIED = (
    "Object.defineProperty(window, 'localStorage', {get() { throw new DOMException('no', 'SecurityError'); }});"
)
FULL = "Storage.prototype.setItem = () => { throw new DOMException('full', 'QuotaExceededError'); };"


async def before(page: Page, script: str) -> None:
    """Run a script in each document of this tab before its own scripts."""
    await page.call("Page.addScriptToEvaluateOnNewDocument", source=script)


@pytest.mark.parametrize("script", [DENIED, FULL])
async def test_cart_and_order_work_without_storage(tab: OpenTab, customer: Person, script: str) -> None:
    await customer.call("POST", f"/user/{customer.id}/addresses", json=ADDRESS)
    async with tab() as page:
        await before(page, script)
        await customer.sign_in(page)
        await page.sees("Your browser does not let this shop store data.")
        await page.click("button", "OK")
        await page.go("#/products/3")
        await page.click("button", ADD_PHONE)
        await page.go("#/cart")
        await page.sees("€199.00 each")
        assert await page.run("document.querySelector('#warning').hidden")
        await page.click("a", "Check out")
        await page.click("button", "Place order")
        await page.sees("Thank you for your order!")
    assert len(await customer.orders()) == 1


GARBAGE = ["{", "null", "[]", "7", '"x"', "{}", '[{"id": 3}]', '[{"id": null, "quantity": 1}]', '{"user": 5}']


@pytest.mark.parametrize("text", GARBAGE)
async def test_garbage_in_storage_is_replaced(tab: OpenTab, text: str) -> None:
    keys = ["purveyor.cart", "purveyor.session", "purveyor.checkout", "purveyor.language"]
    async with tab() as page:
        await page.open("/")
        await page.run(f"{json.dumps(keys)}.forEach((key) => localStorage.setItem(key, {json.dumps(text)}))")
        await page.reload()
        await page.sees("was damaged and has been removed")
        await page.go("#/products/3")
        await page.click("button", ADD_PHONE)
        await page.reload()
        await page.go("#/cart")
        await page.sees("€199.00 each")
        assert await page.run("document.querySelector('#warning').hidden")


async def test_eight_tabs_are_live_at_once(
    chromium: Chromium, processes: Processes, customer: Person, staff: Person
) -> None:
    orders = [await customer.place() for _ in range(8)]
    origin = f"http://127.0.0.1:{processes.ports['shop']}"
    async with open_pages(chromium, origin, len(orders)) as pages:
        await customer.sign_in(pages[0])
        for page, order in zip(pages, orders, strict=True):
            await page.open(f"/#/orders/{order['id']}")
            await page.until("document.querySelector('#live-state').textContent === 'Live'")
        for order in orders:
            await staff.change(order["id"], status="confirmed")
        for page in pages:
            await page.until("/Confirmed/.test(document.querySelector('#timeline').textContent)", "the news")
        streams = [url for page in pages for _, url in page.requests if url.endswith("/live")]
        assert len(streams) == 1
        assert [page.troubles for page in pages] == [[]] * 8


async def test_a_tab_takes_over_the_stream_of_a_closed_one(
    chromium: Chromium, processes: Processes, customer: Person
) -> None:
    orders = [await customer.place() for _ in range(2)]
    origin = f"http://127.0.0.1:{processes.ports['shop']}"
    async with open_pages(chromium, origin, 2) as pages:
        await customer.sign_in(pages[0])
        for page, order in zip(pages, orders, strict=True):
            await page.open(f"/#/orders/{order['id']}")
            await page.until("document.querySelector('#live-state').textContent === 'Live'")
        await until(lambda: any(url.endswith("/live") for _, url in pages[0].requests))
        assert not any(url.endswith("/live") for _, url in pages[1].requests)
        await pages[0].call("Page.navigate", url="about:blank")
        await until(lambda: any(url.endswith("/live") for _, url in pages[1].requests))


async def test_an_order_is_followed_by_polling_where_no_stream_can_be_had(
    tab: OpenTab, customer: Person, staff: Person
) -> None:
    order = await customer.place()
    refusing = """
        const real = fetch;
        window.fetch = (url, options) => String(url).endsWith("/live")
            ? Promise.resolve(new Response("{}", {status: 503})) : real(url, options);
    """
    async with tab() as page:
        await before(page, refusing)
        await customer.sign_in(page, f"#/orders/{order['id']}")
        await page.until("document.querySelector('#live-state').textContent === 'Live'")
        await staff.change(order["id"], status="confirmed")
        await page.until("/Confirmed/.test(document.querySelector('#timeline').textContent)", "the news")


CATALOG = """
    const real = fetch;
    window.fetch = (url, options) => {
        const {pathname, searchParams} = new URL(url);
        if (pathname !== "/api/products") return real(url, options);
        const page = Number(searchParams.get("page"));
        const products = Array.from({length: page === 1 ? 99 : 100}, (_, place) => ({
            id: `SKU-${page}/${place}`, title: `Thing ${page}.${place}`, price: 1, currency: "EUR",
            category: "audio", description: "", image: "", brand: "", model: "", color: "",
        }));
        return Promise.resolve(Response.json({products, page, limit: 100, has_more: page < 25}));
    };
"""


async def test_more_than_two_thousand_products_are_shown_and_a_short_page_is_not_the_last(tab: OpenTab) -> None:
    async with tab() as page:
        await before(page, CATALOG)
        await page.open("/")
        await page.sees("2,499 products")
        await page.fill("Search products", "thing 25.99")
        await page.until("document.querySelectorAll('.card').length === 1")
        assert await page.run("document.querySelector('.card a').getAttribute('href')") == "#/products/SKU-25%2F99"
        await page.click("button", "Add to cart: Thing 25.99")
        assert await page.run("JSON.parse(localStorage['purveyor.cart'])") == [{"id": "SKU-25/99", "quantity": 1}]


IMAGES = [
    ("/catalog/images/1.svg", "/catalog/images/1.svg"),
    ("/nothing.png", "/static/shop/no-picture.svg"),
    ("https://elsewhere.test/1.png", "/static/shop/no-picture.svg"),
    ("//elsewhere.test/1.png", "/static/shop/no-picture.svg"),
    ("http://[", "/static/shop/no-picture.svg"),
    ("data:image/png;base64,AAAA", "/static/shop/no-picture.svg"),
    ("", "/static/shop/no-picture.svg"),
]


async def test_pictures_that_cannot_be_had_are_replaced(tab: OpenTab) -> None:
    script = """
        import('./static/shop/picture.js').then(async ({picture}) => {
            const shown = %s.map((image) => picture({image}, {eager: true}));
            document.querySelector('main').append(...shown);
            const settled = (one) => one.complete && one.naturalWidth > 0;
            while (!shown.every(settled)) await new Promise((done) => setTimeout(done, 20));
            return shown.map((one) => new URL(one.src).pathname);
        })
    """
    async with tab() as page:
        await page.open("/")
        found = await page.run(script % json.dumps([image for image, _ in IMAGES]))
        page.forgive("nothing.png")
    assert found == [expected for _, expected in IMAGES]


HTML = [
    ("Plain & simple, 3 < 4", "Plain &amp; simple, 3 &lt; 4"),
    ("<p>Soft <b>wool</b>.</p><p>Warm&nbsp;too</p>", "<p>Soft <strong>wool</strong>.</p><p>Warm&nbsp;too</p>"),
    ("Rock &amp; Roll", "Rock &amp; Roll"),
    ('<img src=x onerror="alert(1)"><p onclick="x()">A</p>', "<p>A</p>"),
    ("<script>alert(1)</script><style>p{}</style>Text", "Text"),
    ('<a href="javascript:alert(1)">Link</a>', "Link"),
    ("<ul><li>One<li>Two</ul>", "<ul><li>One</li><li>Two</li></ul>"),
    ("<svg><path onclick='x'/></svg><iframe src=//x></iframe>end", "end"),
]


@pytest.mark.parametrize(("text", "shown"), HTML)
async def test_html_of_a_description_is_shown_as_harmless_text(tab: OpenTab, text: str, shown: str) -> None:
    script = """
        Promise.all([import('./static/shop/html-text.js'), import('./static/shop/dom.js')])
            .then(([html, dom]) => dom.h('div', {}, html.richText(%s)).innerHTML)
    """
    async with tab() as page:
        await page.open("/")
        found = await page.run(script % json.dumps(text))
    assert found == shown


_OVERLAP = """
    (() => {
        const toast = document.querySelector('#status').getBoundingClientRect();
        return [...document.querySelectorAll('button, input, select, textarea, .button')]
            .filter((one) => one.checkVisibility())
            .map((one) => [one, one.getBoundingClientRect()])
            .filter(([, box]) => toast.left < box.right && toast.right > box.left)
            .filter(([, box]) => toast.top < box.bottom && toast.bottom > box.top)
            .map(([one]) => one.outerHTML);
    })()
"""


@pytest.mark.parametrize("width", [1280, 390, 320])
async def test_a_message_covers_no_control_and_ends_with_its_view(tab: OpenTab, width: int) -> None:
    shown = "document.querySelector('#status.shown:not(.crowded)')"
    async with tab() as page:
        await page.look(width=width, height=700)
        await page.open("/")
        for title in (PHONE, "Orvanne Lyra 5 Plus Smartphone"):
            await page.click("button", f"Add to cart: {title}")
            await page.until(f"{shown}?.textContent.includes({json.dumps(title)})", "the message")
            assert await page.run(_OVERLAP) == []
        for _ in range(8):
            await page.run("scrollBy({top: 55, behavior: 'instant'})")
            await page.run("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
            assert await page.run(_OVERLAP) == []
        await page.go("#/cart")
        assert await page.run("document.querySelector('#status.shown')") is None


@pytest.mark.parametrize("view", ["#/cart", "#/checkout"])
async def test_the_total_is_in_the_button_and_at_the_top_of_a_phone(
    tab: OpenTab, customer: Person, view: str
) -> None:
    action = {"#/cart": "Check out · €398.00", "#/checkout": "Place order · €398.00"}[view]
    async with tab() as page:
        await page.look(width=390, height=664)
        await customer.sign_in(page, "#/products/3")
        await page.fill("Quantity", "2")
        await page.click("button", ADD_PHONE)
        await page.go(view)
        texts = "[...document.querySelectorAll('.button')].map((one) => one.textContent)"
        assert action in await page.run(texts)
        top = "document.querySelector('.sum .price').getBoundingClientRect()"
        assert await page.run(f"{top}.bottom < innerHeight && {top}.top > 0")
        assert await page.run("document.querySelector('.sum .price').textContent") == "€398.00"


async def test_a_scroll_reported_after_a_link_was_followed_does_not_move_the_next_view(tab: OpenTab) -> None:
    async with tab() as page:
        await page.look(width=390, height=664)
        await page.open("/")
        await page.sees(PHONE)
        await page.run("document.body.style.minHeight = '2000px'")
        await page.run("scrollTo(0, 300); location.hash = '#/cart'; dispatchEvent(new Event('scroll'))")
        await page.shows("/cart")
        assert await page.run("scrollY") == 0


MONEY = [
    ("en", 1234.5, "EUR", "€1,234.50"),
    ("de", 1234.5, "EUR", "1.234,50 €"),
    ("es", 12345.5, "GBP", "12.345,50 £"),
    ("en", 1500, "JPY", "¥1,500"),
    ("de", 1500, "JPY", "1.500 ¥"),
    ("en", 3.765, "KWD", "KWD 3.765"),
    ("fr", 3.765, "KWD", "3,765 KWD"),
    ("en", 10.5, "HUF", "HUF 10.50"),
    ("en", 1.234, "IQD", "IQD 1.234"),
]


async def test_amounts_have_the_decimals_of_their_currency(tab: OpenTab) -> None:
    script = """
        Promise.all([import('./static/shop/text.js'), import('./static/shop/format.js')])
            .then(async ([text, {money, total}]) => {
                const found = [];
                for (const [language, amount, currency] of %s) {
                    await text.use(language);
                    found.push(money(amount, currency).replace(/[\\u00a0\\u202f]/g, ' '));
                }
                return [found, total([[1.255, 3]], 'KWD'), total([[0.1, 3]], 'EUR'), total([[499, 3]], 'JPY')];
            })
    """
    async with tab() as page:
        await page.open("/")
        found = await page.run(script % json.dumps([row[:3] for row in MONEY]))
    assert found == [[row[3] for row in MONEY], 3.765, 0.3, 1497]


LANGUAGES = {"de": "150 Produkte", "es": "150 productos", "fr": "150 produits", "en": "150 products"}


async def test_the_page_speaks_the_chosen_language_and_that_of_the_profile(tab: OpenTab, customer: Person) -> None:
    async with tab() as page:
        await page.open("/")
        for code, text in LANGUAGES.items():
            await page.run(
                f"((one) => {{ one.value = '{code}'; one.dispatchEvent(new Event('change')); }})"
                "(document.querySelector('#language'))"
            )
            await page.sees(text)
            assert await page.run("document.documentElement.lang") == code
        await customer.call("PATCH", f"/user/{customer.id}", json={"language": "de-AT"})
        await customer.sign_in(page)
        await page.sees("150 Produkte")
        await page.until("document.querySelector('#status').textContent === 'Willkommen zurück.'")
        await page.run(
            "((one) => { one.value = 'fr'; one.dispatchEvent(new Event('change')); })"
            "(document.querySelector('#language'))"
        )
        await page.sees("150 produits")
        await page.reload()
        await page.sees("150 produits")
    assert (await customer.call("GET", f"/user/{customer.id}")).json()["language"] == "fr"


def _used_texts() -> set[str]:
    """The texts that the scripts of the customers' pages name, and those of the page itself."""
    desk = re.compile(r"text-|view-desk|change-order|mail-panel")
    found = set(re.findall(r'data-(?:text|label)="([^"]*)"', (STATIC / "index.html").read_text(encoding="utf-8")))
    for script in STATIC.glob("*.js"):
        if not desk.match(script.name):
            found |= set(re.findall(r'\bt\("((?:[^"\\]|\\.)*)"', script.read_text(encoding="utf-8")))
    return found


def _texts(language: str) -> dict[str, str]:
    source = (STATIC / f"text-{language}.js").read_text(encoding="utf-8")
    return dict(re.findall(r'^  "((?:[^"\\]|\\.)*)": (.*),$', source, re.MULTILINE))


def _mail_names() -> dict[str, str]:
    """The names of the kinds of emails in timelines."""
    source = (STATIC / "timeline.js").read_text(encoding="utf-8")
    return dict(re.findall(r'"((?:order|user|shop)\.\w+)": "([^"]+)"', source))


def test_every_kind_of_email_has_a_name() -> None:
    assert set(_mail_names()) == set(KINDS)


@pytest.mark.parametrize("language", ["de", "es", "fr"])
def test_every_text_is_translated_with_the_same_placeholders(language: str) -> None:
    texts = _texts(language)
    assert _used_texts() - set(texts) == set()
    assert set(texts) == set(_texts("de"))
    assert set(_mail_names().values()) <= set(texts)
    for text, translated in texts.items():
        assert set(re.findall(r"\{\w+\}", text)) == set(re.findall(r"\{\w+\}", translated)), text
