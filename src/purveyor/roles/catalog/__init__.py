"""The bundled product catalog, with an API in the shape of fakestoreapi.in."""
