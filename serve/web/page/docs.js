// Swagger UI from the service itself; its validator badge would ask another host.
SwaggerUIBundle({ url: "openapi.json", dom_id: "#docs", validatorUrl: null, deepLinking: true });
