// The address of your backend: after `sam deploy`, the ApiUrl output.
window.POCKETSFLOW_API = "http://localhost:8001";
