"""The containers of docker-compose.yml: what they run beside the databases, and clusters made of them."""
