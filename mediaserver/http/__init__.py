"""HTTP: the application, its errors, and the OpenAPI document of what it answers."""
