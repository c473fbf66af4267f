"""The bundled product catalogue, and an API in the shape of fakestoreapi.in around it."""
