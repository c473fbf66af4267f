"""Product pictures: SVG of the kind of product in its color."""

from functools import cache
from html import escape
from pathlib import Path
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

# The drawing, in the folder ``pictures``, by the end of a product's title. The first match counts.
KINDS = {
    "Gaming Headset": "headset",
    "Headphones": "headphones",
    "Earbuds": "earbuds",
    "Bookshelf Speakers": "speakers",
    "Subwoofer": "subwoofer",
    "Portable Speaker": "portablespeaker",
    "Party Speaker": "partyspeaker",
    "Bedside Speaker": "bedsidespeaker",
    "Turntable": "turntable",
    "Preamplifier": "amplifier",
    "Amplifier": "amplifier",
    "Radio": "radio",
    "Soundbar": "soundbar",
    "Voice Recorder": "recorder",
    "Microphone": "microphone",
    "Kettle": "kettle",
    "Toaster": "toaster",
    "Coffee Grinder": "grinder",
    "Espresso Machine": "espresso",
    "Bean-to-Cup Coffee Machine": "espresso",
    "Filter Coffee Maker": "coffeemaker",
    "Milk Frother": "frother",
    "Pasta Machine": "pasta",
    "Air Fryer": "airfryer",
    "Oven": "oven",
    "Slow Cooker": "slowcooker",
    "Stand Mixer": "mixer",
    "Hand Blender": "handblender",
    "Blender": "blender",
    "Fan": "fan",
    "Vacuum Cleaner": "vacuum",
    "Iron": "iron",
    "Instant Camera": "instantcamera",
    "Dash Camera": "dashcam",
    "Action Camera": "actioncamera",
    "Indoor Camera": "indoorcamera",
    "Outdoor Camera": "outdoorcamera",
    "Camera": "camera",
    "Camera with Lens": "camera",
    "Zoom Lens": "zoomlens",
    "Lens": "lens",
    "Instant Film": "film",
    "Photo Printer": "photoprinter",
    "Tripod": "tripod",
    "Camera Bag": "camerabag",
    "Ring Light": "ringlight",
    "Light Tent": "lighttent",
    "Handheld Console": "handheld",
    "Console": "console",
    "Controller": "controller",
    "Racing Wheel": "racingwheel",
    "Charging Dock": "chargingdock",
    "Keyboard": "keyboard",
    "Keypad": "keypad",
    "Vertical Mouse": "verticalmouse",
    "Mouse": "mouse",
    "Desk Mat": "deskmat",
    "Ultrawide Monitor": "ultrawide",
    "Monitor": "monitor",
    "Gaming Chair": "gamingchair",
    "Arcade": "arcade",
    "Light Bar": "lightbar",
    "2-in-1 Laptop": "convertible",
    "Laptop": "laptop",
    "Docking Station": "dock",
    "Laptop Stand": "laptopstand",
    "Laptop Sleeve": "sleeve",
    "SSD": "ssd",
    "Webcam": "webcam",
    "Document Scanner": "scanner",
    "Printer": "printer",
    "Smartphone": "smartphone",
    "Folding Phone": "foldphone",
    "Outdoor Phone": "rugged",
    "Keypad Phone": "keypadphone",
    "First Phone": "firstphone",
    "Phone Case": "phonecase",
    "Phone Lanyard": "lanyard",
    "Tablet": "tablet",
    "Power Bank": "powerbank",
    "Charging Stand": "chargingstand",
    "Wall Charger": "wallcharger",
    "Charging Cable": "cable",
    "Phone Mount": "bikemount",
    "Home Hub": "hub",
    "Radiator Thermostat": "radiatorvalve",
    "Thermostat": "thermostat",
    "Smart Plugs": "plug",
    "Leak Sensor": "leak",
    "Smart Lock": "lock",
    "Doorbell": "doorbell",
    "Smoke Alarm": "smoke",
    "Light Bulb": "bulb",
    "Light Bulbs": "bulbs",
    "Light Strip": "lightstrip",
    "Table Lamp": "tablelamp",
    "Wake-Up Light": "wakeuplight",
    "Indoor Garden": "garden",
    "Picture-Frame TV": "frametv",
    "Travel TV": "traveltv",
    "TV": "tv",
    "Pocket Projector": "pocketprojector",
    "Projector": "projector",
    "Projector Screen": "screen",
    "Streaming Box": "streamingbox",
    "Wall Mount": "wallmount",
    "Remote": "remote",
    "Picture Link": "dongle",
    "Children's Watch": "kidswatch",
    "Hybrid Watch": "hybridwatch",
    "Running Watch": "sportwatch",
    "Outdoor Watch": "sportwatch",
    "Smartwatch": "smartwatch",
    "Fitness Band": "fitnessband",
    "Chest Strap": "cheststrap",
    "Watch Band": "watchband",
    "Smart Ring": "ring",
    "Smart Glasses": "glasses",
    "Posture Sensor": "posture",
    "Charging Puck": "puck",
}

_PICTURES = Path(__file__).parent / "pictures"
_FRAME = """\
<svg xmlns="http://www.w3.org/2000/svg" width="480" height="320" viewBox="0 43 480 320"
role="img" aria-label="{title}">
<defs><radialGradient id="wall" cx=".5" cy=".4" r=".75">
<stop offset="0" stop-color="#fff" stop-opacity=".85"/><stop offset=".75" stop-color="#fff" stop-opacity="0"/>
</radialGradient></defs>
<rect y="43" width="480" height="320" fill="{wall}"/><rect y="43" width="480" height="320" fill="url(#wall)"/>
<ellipse cx="240" cy="322" rx="132" ry="11" fill="#000" fill-opacity=".13"/>
<g color="{body}" fill="currentColor">
{drawing}</g>
</svg>
"""


def kind(product: Product) -> str:
    """The kind of product, which names its drawing. Raises ``LookupError`` for a title without one."""
    for ending, name in KINDS.items():
        if product.title.endswith(ending):
            return name
    raise LookupError(f"no drawing for {product.title!r}")


@cache
def _drawing(name: str) -> str:
    """A drawing between (84, 84) and (396, 322).

    ``currentColor`` is the product's color. Black and white at low opacity shade it, so that one drawing serves
    every color.
    """
    return (_PICTURES / f"{name}.svg").read_text(encoding="utf-8")


def picture(product: Product) -> str:
    """Draw a product as a self-contained SVG document, without scripts, styles or external resources."""
    paint = PAINTS[product.color]
    return _FRAME.format(
        title=escape(product.title), wall=paint.wall, body=paint.body, drawing=_drawing(kind(product))
    )
