#![no_main]

throng_fuzz::target!("client_message");
