//! What clients send to the local server.

use std::sync::Arc;

use emoflow::serve::heard;

use crate::engine::{Shape, Target, USUAL, hold, quiet};

#[test]
fn requests() {
    quiet();
    let request = |path: &str, headers: &str, body: &str| {
        format!(
            "POST {path} HTTP/1.1\r\nHost: localhost:8765\r\n{headers}Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let chat = r#"{"model": "m+calm:0.1@19/20", "messages": [{"role": "system", "content": "Be kind."},
        {"role": "user", "content": [{"type": "text", "text": "Hello."}]}], "stop": ["a", "b"]}"#;
    let seeds = [
        request("/token/v1/chat/completions", "Content-Type: application/json\r\n", chat),
        request(
            "/v1/completions",
            "Authorization: Bearer token\r\n",
            r#"{"prompt": [[1, 2], "text", [3]], "stop": "x"}"#,
        ),
        request("/token/results/a%20b.csv?q=x+y&is.a=%41", "Origin: http://localhost:8765\r\n", ""),
        "GET /token/ HTTP/1.0\r\nhost: [::1]\r\nExpect: 100-continue\r\n\r\n".to_string(),
    ];
    hold(Target {
        name: "requests",
        shape: Shape::Text,
        seeds: seeds.map(String::into_bytes).to_vec(),
        words: &[
            "\r\n",
            "Host: ",
            "Transfer-Encoding: chunked",
            "%2e%2e",
            "..",
            "null",
            "Bearer ",
            "[",
            "{",
            "+",
            "@",
            ":",
            "HTTP/1.1",
            "token",
        ],
        executions: 4000,
        bounds: USUAL,
        read: Arc::new(|_, bytes| heard(bytes)),
    });
}
