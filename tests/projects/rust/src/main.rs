//! Answers every connection with a number.

use std::io::Write;
use std::net::TcpListener;

fn main() -> std::io::Result<()> {
    let listener = TcpListener::bind(("0.0.0.0", 7000))?;
    let mut buffer = itoa::Buffer::new();
    for (number, stream) in listener.incoming().enumerate() {
        let text = buffer.format(number + 42);
        writeln!(stream?, "{}", text)?;
    }
    Ok(())
}
