//! Who may ask: whoever knows the token, and no page of another site. Knows no address but that.

use anyhow::{Context, Result};

use super::http::{Refused, Request};

/// A random word that nobody can guess: 128 bits.
///
/// # Errors
/// The system has no random numbers.
pub fn token() -> Result<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(anyhow::Error::msg).context("draw a token")?;
    Ok(hex::encode(bytes))
}

/// The path of `request` behind the token. The token is the first part of the address; below `/v1` it may be the key of a
/// client instead.
///
/// The name in `Host` must be this machine's own: a site whose name was made to point here (DNS rebinding) shows its name.
/// The port may be another, as of a tunnel. `Origin`, which browsers send with what a page asks for, must be this address.
pub fn admit(request: &Request, token: &str) -> Result<String, Refused> {
    let host = request.header("host")?.unwrap_or_default();
    let name = host.rsplit_once(':').map_or(host, |(name, port)| match port.parse::<u16>() {
        Ok(_) => name,
        Err(_) => host,
    });
    if !["127.0.0.1", "localhost", "[::1]"].contains(&name) {
        return Err(Refused::new(403, "the header `Host` must name this machine: 127.0.0.1 or localhost"));
    }
    if let Some(origin) = request.header("origin")?
        && origin != format!("http://{host}")
    {
        return Err(Refused::new(403, "requests from pages of other sites are refused (`Origin`)"));
    }
    let path = request.path.strip_prefix('/').unwrap_or(&request.path);
    let (first, rest) = path.split_once('/').unwrap_or((path, ""));
    if same(first, token) {
        return Ok(rest.to_string());
    }
    let key = request.header("authorization")?.and_then(|value| value.strip_prefix("Bearer "));
    if first == "v1" && key.is_some_and(|key| same(key.trim(), token)) {
        return Ok(path.to_string());
    }
    Err(Refused::new(403, "the address must begin with the token that `emoflow serve` printed"))
}

/// Compares without telling by its time how much is alike.
fn same(a: &str, b: &str) -> bool {
    a.len() == b.len() && a.bytes().zip(b.bytes()).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_differ() {
        let (one, other) = (token().unwrap(), token().unwrap());
        assert!(one.len() == 32 && one != other);
        assert!(same(&one, &one) && !same(&one, &other) && !same(&one[..31], &one));
    }
}
