"""Product pictures: SVG drawn from category, color and title."""

from html import escape
from typing import NamedTuple

from purveyor.roles.catalog.contract import Product


class Paint(NamedTuple):
    """The colors of the product and of the wall behind it."""

    body: str
    wall: str


PAINTS = {
    "black": Paint("#3b424c", "#d5dae1"),
    "copper": Paint("#c4733f", "#f6e3d6"),
    "coral": Paint("#f2745f", "#fde2db"),
    "forest green": Paint("#2f6b4b", "#d8e9de"),
    "graphite": Paint("#6c7683", "#dde2e8"),
    "lilac": Paint("#a58bd0", "#ece4f7"),
    "mint": Paint("#67c2a3", "#ddf3ea"),
    "navy": Paint("#2b4a86", "#dae3f3"),
    "red": Paint("#cf3b3f", "#fadcda"),
    "sand": Paint("#cdb48a", "#f4ecdd"),
    "silver": Paint("#b3bcc6", "#e8ecf0"),
    "sky blue": Paint("#63aee0", "#dceefa"),
    "teal": Paint("#1f8a8c", "#d5ecec"),
    "walnut": Paint("#7b5138", "#ecdfd5"),
    "white": Paint("#fbfbf9", "#c8d5df"),
    "yellow": Paint("#efbd2c", "#fdf2cf"),
}

# Drawn in a box from (100, 90) to (380, 320). ``currentColor`` is the product's color; black and white at low
# opacity shade it, so that one drawing serves every color.
GLYPHS = {
    "appliances": """
<path d="M312 172h22a30 30 0 0 1 30 30v34a40 40 0 0 1-40 40" fill="none" stroke="#1d232c"
stroke-width="18" stroke-linecap="round"/>
<path d="M172 186l-52-18q-8 2-4 10l46 66z"/>
<path d="M172 186l-52-18q-8 2-4 10l46 66z" fill="#000" fill-opacity=".2"/>
<path d="M182 142h116q12 0 14 12l20 130q2 14-12 14H160q-14 0-12-14l20-130q2-12 14-12z"/>
<path d="M290 142h8q12 0 14 12l20 130q2 14-12 14h-26z" fill="#000" fill-opacity=".14"/>
<path d="M196 160l-14 116" stroke="#fff" stroke-width="10" stroke-linecap="round" stroke-opacity=".4"/>
<path d="M186 142q54-44 108 0z" fill="#1d232c"/><circle cx="240" cy="112" r="12" fill="#1d232c"/>
<rect x="140" y="298" width="200" height="20" rx="8" fill="#1d232c"/>""",
    "audio": """
<path d="M152 236v-32a88 88 0 0 1 176 0v32" fill="none" stroke="currentColor" stroke-width="24"
stroke-linecap="round"/>
<path d="M176 168a76 76 0 0 1 128 0" fill="none" stroke="#000" stroke-width="12" stroke-linecap="round"
stroke-opacity=".22"/>
<rect x="172" y="222" width="30" height="90" rx="15" fill="#1d232c"/>
<rect x="278" y="222" width="30" height="90" rx="15" fill="#1d232c"/>
<rect x="122" y="212" width="62" height="106" rx="30"/>
<rect x="296" y="212" width="62" height="106" rx="30"/>
<path d="M326 212h2a30 30 0 0 1 30 30v46a30 30 0 0 1-30 30h-2q16-10 16-30v-46q0-20-16-30z" fill="#000"
fill-opacity=".18"/>
<path d="M138 246v38M312 246v38" stroke="#fff" stroke-width="8" stroke-linecap="round"
stroke-opacity=".4"/>""",
    "camera": """
<path d="M190 150l12-24q4-8 12-8h52q8 0 12 8l12 24z"/>
<rect x="138" y="136" width="40" height="20" rx="6" fill="#1d232c"/>
<rect x="112" y="148" width="256" height="170" rx="24"/>
<path d="M112 190h256v80H112z" fill="#000" fill-opacity=".2"/>
<circle cx="240" cy="234" r="72" fill="#fff" fill-opacity=".85"/>
<circle cx="240" cy="234" r="63" fill="#1d232c"/>
<circle cx="240" cy="234" r="42" fill="#3c4d68"/><circle cx="240" cy="234" r="24" fill="#151a22"/>
<path d="M212 222a32 32 0 0 1 20-20" fill="none" stroke="#fff" stroke-width="8" stroke-linecap="round"
stroke-opacity=".75"/>
<circle cx="340" cy="170" r="8" fill="#fff" fill-opacity=".8"/>""",
    "gaming": """
<path d="M172 146q10-16 28-10h80q18-6 28 10c42 6 76 120 64 156-12 32-50 12-76-36H184c-26 48-64 68-76
36-12-36 22-150 64-156z"/>
<path d="M308 146c42 6 76 120 64 156-6 16-18 19-32 12 16-34 4-130-46-174q10 0 14 6z" fill="#000"
fill-opacity=".16"/>
<path d="M174 172h18v18h18v18h-18v18h-18v-18h-18v-18h18z" fill="#1d232c"/>
<g stroke="#1d232c" stroke-width="4">
<circle cx="310" cy="176" r="11" fill="#e8574f"/><circle cx="332" cy="199" r="11" fill="#efbd2c"/>
<circle cx="288" cy="199" r="11" fill="#3fa7d6"/><circle cx="310" cy="222" r="11" fill="#59b97e"/></g>
<circle cx="212" cy="240" r="20" fill="#1d232c"/><circle cx="268" cy="240" r="20" fill="#1d232c"/>
<circle cx="212" cy="238" r="11" fill="#4a5566"/><circle cx="268" cy="238" r="11" fill="#4a5566"/>
<rect x="226" y="168" width="28" height="9" rx="4.5" fill="#1d232c"/>""",
    "laptop": """
<rect x="134" y="126" width="212" height="156" rx="14"/>
<rect x="145" y="137" width="190" height="134" rx="6" fill="#1d232c"/>
<path d="M145 246l52-54 36 36 30-26 72 64q0 5-6 5H151q-6 0-6-6z" fill="#fff" fill-opacity=".14"/>
<circle cx="296" cy="170" r="14" fill="#efbd2c"/>
<path d="M102 286h276v6q0 24-24 24H126q-24 0-24-24z"/>
<path d="M102 286h276v6q0 24-24 24H126q-24 0-24-24z" fill="#000" fill-opacity=".16"/>
<path d="M102 280h276v12H102z"/>
<path d="M208 280h64q0 12-10 12h-44q-10 0-10-12z" fill="#000" fill-opacity=".25"/>""",
    "mobile": """
<rect x="177" y="92" width="126" height="226" rx="24"/>
<rect x="299" y="146" width="8" height="40" rx="4"/>
<rect x="185" y="100" width="110" height="210" rx="17" fill="#1d232c"/>
<rect x="222" y="108" width="36" height="9" rx="4.5" fill="#000"/>
<path d="M185 236l34-40 28 30 20-18 28 30v56q0 17-17 17h-76q-17 0-17-17z" fill="#fff" fill-opacity=".14"/>
<circle cx="266" cy="164" r="13" fill="#efbd2c"/>
<rect x="200" y="132" width="40" height="9" rx="4.5" fill="#fff" fill-opacity=".8"/>
<rect x="200" y="149" width="26" height="7" rx="3.5" fill="#fff" fill-opacity=".4"/>
<rect x="220" y="297" width="40" height="5" rx="2.5" fill="#fff" fill-opacity=".7"/>""",
    "smarthome": """
<rect x="298" y="122" width="30" height="60" rx="5" fill="#1d232c"/>
<path d="M142 206l98-84 98 84v98q0 14-14 14H156q-14 0-14-14z"/>
<path d="M240 122l98 84v98q0 14-14 14h-84z" fill="#000" fill-opacity=".1"/>
<path d="M112 218l116-102q12-10 24 0l116 102" fill="none" stroke="#1d232c" stroke-width="20"
stroke-linecap="round" stroke-linejoin="round"/>
<circle cx="240" cy="276" r="13" fill="#1d232c"/>
<path d="M208 246a45 45 0 0 1 64 0M182 218a82 82 0 0 1 116 0" fill="none" stroke="#1d232c"
stroke-width="15" stroke-linecap="round"/>""",
    "tv": """
<path d="M228 274h24l6 32h-36z" fill="#1d232c"/>
<rect x="172" y="302" width="136" height="16" rx="8" fill="#1d232c"/>
<rect x="100" y="112" width="280" height="170" rx="14"/>
<rect x="109" y="121" width="262" height="152" rx="7" fill="#1d232c"/>
<circle cx="312" cy="166" r="20" fill="#efbd2c"/>
<path d="M109 240l66-66 54 54 40-34 102 70q0 9-9 9H118q-9 0-9-9z" fill="#4d6079"/>
<path d="M109 262l84-46 70 40 50-22 58 26v3q0 10-9 10H118q-9 0-9-9z" fill="#6f88a6"/>
<path d="M124 136h70l-85 92v-84q0-8 8-8z" fill="#fff" fill-opacity=".12"/>""",
    "wearable": """
<path d="M200 152l10-52q2-10 12-10h36q10 0 12 10l10 52zM200 258l10 52q2 10 12 10h36q10 0 12-10l10-52z"/>
<path d="M200 152l10-52q2-10 12-10h36q10 0 12 10l10 52zM200 258l10 52q2 10 12 10h36q10 0 12-10l10-52z"
fill="#000" fill-opacity=".22"/>
<rect x="308" y="188" width="16" height="34" rx="6" fill="#1d232c"/>
<rect x="168" y="133" width="144" height="144" rx="42"/>
<rect x="179" y="144" width="122" height="122" rx="33" fill="#1d232c"/>
<path d="M240 205v-36M240 205l24 16" stroke="#fff" stroke-width="9" stroke-linecap="round"/>
<circle cx="240" cy="205" r="47" fill="none" stroke="#fff" stroke-opacity=".16" stroke-width="7"/>
<path d="M240 158a47 47 0 1 1-45 61" fill="none" stroke="#59d0a0" stroke-width="7"
stroke-linecap="round"/>
<circle cx="240" cy="205" r="7" fill="#efbd2c"/>""",
}

_FRAME = """\
<svg xmlns="http://www.w3.org/2000/svg" width="480" height="480" viewBox="0 0 480 480"
role="img" aria-label="{title}">
<defs><radialGradient id="wall" cx=".5" cy=".4" r=".75">
<stop offset="0" stop-color="#fff" stop-opacity=".85"/><stop offset=".75" stop-color="#fff" stop-opacity="0"/>
</radialGradient></defs>
<rect width="480" height="480" fill="{wall}"/><rect width="480" height="480" fill="url(#wall)"/>
<ellipse cx="240" cy="322" rx="132" ry="11" fill="#000" fill-opacity=".13"/>
<g color="{body}" fill="currentColor">{glyph}
</g>
<g fill="#1d232c" font-family="system-ui, sans-serif" text-anchor="middle">
<text x="240" y="386" font-size="26" font-weight="600">{name}</text>
<text x="240" y="417" font-size="23">{kind}</text>
<text x="240" y="450" font-size="17" fill-opacity=".65">{color}</text>
</g>
</svg>
"""


def picture(product: Product) -> str:
    """Draw a product as a self-contained SVG document, without scripts, styles or external resources."""
    name = f"{product.brand} {product.model}"
    paint = PAINTS[product.color]
    return _FRAME.format(
        title=escape(product.title),
        wall=paint.wall,
        body=paint.body,
        glyph=GLYPHS[product.category],
        name=escape(name),
        kind=escape(product.title.removeprefix(name).strip()),
        color=escape(product.color),
    )
