"""Names that are repeated in mails to strangers: what is a name, and what is bait."""

# ruff: noqa: RUF001 - the characters that look like others are meant
import pytest

from purveyor.kit.errors import InvalidInput
from purveyor.roles.auth.model import clean_name

NAMES = """
Ada Lovelace|Dr. Müller|Dr.Müller|Dr.Weber|Prof.Dr.Kim|Anne-Marie O'Neil|J.P. Morgan
J.R.R.Tolkien|J. R. R. Tolkien|St. John
St.John|Nguyễn Thị Minh Khai|Sammy Davis, Jr.|John Smith Jr.|Henry VIII|Louis 14
John Smith 3rd|2Pac|50 Cent|Ma.Teresa
Hans.Peter|Jürgen Groß|Łukasz Wójcik|Zoë Müller-Łukasz|María José Carreño Quiñones
İpek Yılmaz|Siân Ní Bhriain
А. С. Пушкин|А.С.Пушкин|Алексей Толстой|Γιώργος Παπαδόπουλος|Ὀδυσσεύς|محمد عبد الله
علی‌رضا|דוד בן־גוריון|ד.ר.כהן
ดร.สมชาย ใจดี|นพ.สมศักดิ์|พล.อ.ประยุทธ์|王小明|山田 太郎|ジョン・スミス|约翰·史密斯|김민준|अमिताभ बच्चन|தமிழ் செல்வன்
X Æ A-12|Björk|A$AP Rocky|Ke$ha|Müller & Söhne|Müller GmbH & Co. KG
Müller GmbH & Co.KG|AC/DC|1. FC Köln|1860 München
Studio 54|Jean d'Arc|D’Angelo|van der Berg|de la Cruz|Sister M. Clare
Martin Luther King Jr.|Ph.D. Smith|Customer 12345|U.S. Grant
Anna Euro|Bill Dollar|Ezra Pound|Penny Pound|Ph.D|Ng|Ó|Aleksandr Million|Co Nguyen|Net Miller|Test
Dot Cotton|Dorothy (Dot)|Area 51k
"""
BAIT = {
    "a web address": """
https://evil.test/claim|Win at http://evil.example/ now|hxxp://evil|www.evil.test
WWW.EVIL.TEST|evil.test|Visit evil.test
Evil.Com|EVIL.COM|evil.casino|evil-shop.example|a.b.evil.org|t.me/scam|bit.ly|x.com
evil．test|evil。com|ｅｖｉｌ．ｃｏｍ
иванов.рф|商店.中国|xn--80ak6aa92e.xn--p1ai|See evil.test.|1.2.3.4|goo.gl|Dr.com
mailto:x|evil.te‍st|Visit my.shop now
anna.schmidt|free.gifts for you|evil(dot)com|evil [punkt] test""",
    "an email address": "ada@example.com|mail ada@evil now|@scammer|ada＠evil",
    "a phone number": """
+1 900 555 0100|call +1-900-555-0100|call 0900 123456|0900123456|(030) 1234567
555-0100 call|٠٩٠٠١٢٣٤٥٦|０９００１２３４５６
call 1.900.555.0100""",
    "an amount of money": """
You won 1000 EUR!|EUR 1000|1000EUR|1.000,00 €|€1000|$500 for you|500$|£5|1000 euros
1 million|Win 500 usd|USD500|500円
1000 руб|₹ 500|CHF 1'000.-|100 bucks|5000 TRY|＄１００|R$ 100|Rs. 500|500 kr|1000 zł
Gewinn 500,- Euro|500.– CHF|10k usd|$10k|10 tsd. Euro|500 евро|٥٠٠ يورو""",
}


@pytest.mark.parametrize("name", NAMES.strip().replace("\n", "|").split("|"))
def test_names_of_people_pass(name: str) -> None:
    assert clean_name(name)


@pytest.mark.parametrize(
    ("what", "name"),
    [(what, name) for what, names in BAIT.items() for name in names.strip().replace("\n", "|").split("|")],
)
def test_bait_is_refused_and_named(what: str, name: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        clean_name(name)
    (fault,) = refusal.value.errors
    assert fault.pointer == "/name"
    assert f"must not contain {what} (" in fault.detail
