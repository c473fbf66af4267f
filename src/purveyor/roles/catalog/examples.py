"""Examples for the API document: one product, as every route tells of it."""

PRODUCT = {
    "id": 1,
    "title": "Ondulo Murmur One Wireless Headphones",
    "image": "/catalog/images/1.svg",
    "price": 59.95,
    "description": "Over-ear headphones that fold flat, with 40 hours on one charge.",
    "brand": "Ondulo",
    "model": "Murmur One",
    "color": "slate",
    "category": "audio",
    "discount": 10,
}
LIST = {"status": "SUCCESS", "message": "1 products", "products": [PRODUCT]}
ONE = {"status": "SUCCESS", "message": "Product 1", "product": PRODUCT}
CATEGORIES = {"status": "SUCCESS", "message": "2 categories", "categories": ["audio", "kitchen"]}
PICTURE = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 480 480">...</svg>'
