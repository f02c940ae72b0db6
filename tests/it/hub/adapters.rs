//! An adapter from the hub, for a model in a folder: what is fetched and when, and that only the files count.

use std::path::Path;

use super::server::{self, COMMIT, Hub};
use super::{command, fails, keys, succeeds};

/// `tests/tiny` holds the adapter here.
fn experiment(adapter: &str) -> String {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    format!(
        "layers = [0]\n[models.tiny]\npath = \"{}\"\n{adapter}\n[emotions]\nwords = [\"happy\", \"sad\"]\n\
         [stories.said.template]\npassages = [\"Today she felt {{emotion}} all day.\"]\n\
         [activations]\nfrom_token = 0\n[analysis.similarity.cosine]\n",
        fixtures.join("llama-gqa").display()
    )
}

#[test]
fn an_adapter_is_fetched_when_the_model_is_loaded_and_counts_by_its_content() {
    let hub = Hub::start("adapters/plain");
    let dir = tempfile::tempdir().unwrap();
    let ask = |adapter: &str, more: &[&str]| {
        command(dir.path(), &hub.url, &experiment(adapter), more).output().unwrap()
    };
    let named = "adapter = \"tests/tiny\"";
    succeeds(&ask(named, &["plan"]), "5 to run, 0 cached");
    assert_eq!(hub.fetched(), ["adapter_config.json"]);
    succeeds(&ask(named, &["run", "--quiet"]), "ran 5, cached 0");
    assert_eq!(hub.fetched(), ["adapter_model.safetensors"]);
    let run_json = std::fs::read_to_string(dir.path().join("results/exp/run.json")).unwrap();
    let recorded: serde_json::Value = serde_json::from_str(&run_json).unwrap();
    assert_eq!(
        recorded["models"][0]["adapter"],
        serde_json::json!({"name": "tests/tiny", "commit": COMMIT, "made_for": "tests/llama-gqa"})
    );
    let page = crate::page(&dir.path().join("results/exp/report.html"));
    assert!(page.contains("with the adapter tests/tiny at 0123456"));

    hub.connections();
    succeeds(&ask(named, &["run", "--quiet", "--offline"]), "ran 0,");
    succeeds(&ask(named, &["check"]), "no problems");
    assert_eq!(hub.connections(), 0, "a socket was opened");

    // The same files in a folder are the same adapter; without it, it is another model.
    let local = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/adapters/plain");
    let folder = format!("adapter = \"{}\"", local.display());
    let of = |adapter: &str| keys(&ask(adapter, &["plan", "--json"]));
    assert_eq!(of(named), of(&folder));
    assert_ne!(of(named), of(""));
    assert!(hub.fetched().iter().all(|name| !server::is_large(name)));
}

#[test]
fn what_is_no_adapter_is_said() {
    let hub = Hub::start("llama-gqa");
    let dir = tempfile::tempdir().unwrap();
    for (adapter, says) in [
        ("adapter = \"tests/tiny\"", "there is no `adapter_config.json`"),
        ("adapter = \"no such\"", "a repository of the hub is `owner/name`"),
        ("adapter_revision = \"main\"", "there is no `adapter`"),
    ] {
        fails(&command(dir.path(), &hub.url, &experiment(adapter), &["plan"]).output().unwrap(), &[says]);
    }
    let local = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/adapters/plain");
    for (more, says) in [
        ("adapter_revision = \"main\"", "is a folder, which has no revision"),
        ("offload = \"layers\"", "is merged into its weights"),
    ] {
        let text = experiment(&format!("adapter = \"{}\"\n{more}", local.display()));
        fails(&command(dir.path(), &hub.url, &text, &["check"]).output().unwrap(), &[says]);
    }
}
