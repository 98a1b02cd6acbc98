#![no_main]

throng_fuzz::target!("config_file");
