//! The balancer: what stands before several nodes and gives each client one of them.
