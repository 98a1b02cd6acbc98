#![no_main]

throng_fuzz::target!("handshake");
