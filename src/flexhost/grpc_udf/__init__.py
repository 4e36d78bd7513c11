"""Plain functions over gRPC: what is asked, what is answered, and its bytes."""
