#![no_main]

throng_fuzz::target!("http_head");
