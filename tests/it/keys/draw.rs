//! Experiment files that are drawn at random, as tables that can be changed and written in more than one way.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use emoflow::config::Experiment;
use emoflow::lm::device;
use emoflow::plan::{self, Plan};
use emoflow::progress::Silent;
use emoflow::resolve::resolve;
use emoflow::store::Store;

/// Splitmix64: the same numbers from the same seed everywhere.
pub struct Dice(pub u64);

impl Dice {
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % bound as u64) as usize
    }

    pub fn coin(&mut self) -> bool {
        self.below(2) == 0
    }

    pub fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len())]
    }

    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i + 1));
        }
    }
}

/// A change: table, key, and the new value, or `None` to remove it (with an empty key, the whole table).
pub type Edit = (&'static str, &'static str, Option<&'static str>);

/// An experiment file: tables by header (`""` is the top), each of keys and values as written.
#[derive(Clone, Debug)]
pub struct File {
    tables: Vec<(String, Vec<(String, String)>)>,
}

impl File {
    /// Two or three models; each kind of source (`s0` template, `s1` written by each model, `s2` a file, `s3` written by
    /// `m0`, `s5` at a server), neutral text of kind `neutral`, each kind of analysis of one set (`a0` to `a7`), and of two that
    /// reads all kept layers (`a8`, `a9`), perhaps some more; values at random.
    pub fn draw(dice: &mut Dice, neutral: &str) -> File {
        let mut file = File { tables: vec![(String::new(), Vec::new())] };
        file.set("", "name", "\"drawn\"");
        file.set("", "layers", dice.one(&["\"all\"", "[0, 1]", "[0, 1, 2]", "{ from = 0.0, to = 0.6 }"]));
        file.set("", "seed", dice.one(&["0", "3", "4"]));
        // All with a chat template: some files ask for texts as a turn.
        let mut fixtures = ["llama-gqa", "llama-bf16", "llama3-rope"];
        dice.shuffle(&mut fixtures);
        for (model, fixture) in fixtures.iter().enumerate().take(2 + dice.below(2)) {
            file.set(
                &format!("models.m{model}"),
                "path",
                &format!("\"{}\"", fixture_folder(fixture).display()),
            );
        }
        if dice.coin() {
            // The same weights in another precision are another model.
            let path = format!("\"{}\"", fixture_folder(fixtures[0]).display());
            file.set("models.m3", "path", &path);
            file.set("models.m3", "dtype", "\"f16\"");
        }
        file.set(
            "emotions",
            "words",
            dice.one(&["[\"happy\", \"sad\", \"proud\"]", "[\"sad\", \"angry\", \"happy\", \"proud\"]"]),
        );
        file.template("stories.s0.template", 1 + dice.below(3), "She felt {emotion} on day");
        if dice.coin() {
            // Of three or four emotions: more stories than a shard has.
            file.template("stories.s4.template", 129, "Nobody was {emotion} in room");
        }
        file.generate("stories.s1.generate", dice, "\"self\"");
        file.generate("stories.s3.generate", dice, "\"m0\"");
        file.set("stories.s2.file", "path", "\"{data}/stories.csv\"");
        file.openai("stories.s5.openai");
        match neutral {
            "template" => file.template("neutral.template", 4 + dice.below(3), "A table has legs number"),
            "generate" => {
                file.generate("neutral.generate", dice, "\"self\"");
                // More texts than components are removed.
                file.set("neutral.generate", "per_topic", "5");
            }
            "openai" => file.openai("neutral.openai"),
            _ => file.set("neutral.file", "path", "\"{data}/stories.csv\""),
        }
        file.set("activations", "from_token", dice.one(&["1", "2"]));
        file.set("activations", "batch_tokens", dice.one(&["512", "1024"]));
        file.set("vectors.denoise", "components", dice.one(&["1", "2"]));
        file.set("analysis.a0.pca", "components", dice.one(&["1", "2"]));
        file.set("analysis.a1.cosine", "pairs", dice.one(&["[]", "[[\"happy\", \"sad\"]]"]));
        file.set("analysis.a2.logit_lens", "top", dice.one(&["3", "5"]));
        file.set("analysis.a3.steering", "random", dice.one(&["1", "2"]));
        file.set("analysis.a8.rsa", "permutations", dice.one(&["10", "20"]));
        file.set("analysis.a9.cka", "permutations", dice.one(&["10", "20"]));
        file.set("analysis.a3.steering", "layers", dice.one(&["\"default\"", "\"all\""]));
        file.set("analysis.a4.implicit", "wrap", "\"raw\"");
        let dose = "analysis.a5.intensity.templates.dose";
        file.set("analysis.a5.intensity", "wrap", "\"raw\"");
        file.set(dose, "texts", "[\"I took {number} mg.\"]");
        file.set(dose, "numbers", dice.one(&["[1, 2, 4, 8]", "[0.5, 1, 2, 4, 8]"]));
        file.set(dose, "rise", "[\"sad\"]");
        file.set("analysis.a6.geometry", "resamples", dice.one(&["5", "6"]));
        file.set("analysis.a7.probe", "resamples", dice.one(&["5", "6"]));
        file.set("analysis.a10.norms", "file", "\"{data}/norms.csv\"");
        file
    }

    /// A source at a server, which nobody asks for a plan.
    fn openai(&mut self, header: &str) {
        self.set(header, "url", "\"http://127.0.0.1:9/v1\"");
        self.set(header, "model", "\"teller\"");
        self.set(header, "topics", "[\"a lost key\"]");
        self.set(header, "per_topic", "5");
    }

    fn template(&mut self, header: &str, passages: usize, text: &str) {
        let passages: Vec<_> = (0..passages).map(|i| format!("\"{text} {i}.\"")).collect();
        self.set(header, "passages", &format!("[{}]", passages.join(", ")));
    }

    fn generate(&mut self, header: &str, dice: &mut Dice, writer: &str) {
        self.set(header, "model", writer);
        self.set(header, "topics", dice.one(&["[\"a lost key\"]", "[\"a key\", \"a dog\"]"]));
        self.set(header, "per_topic", dice.one(&["1", "2"]));
        self.set(header, "max_new_tokens", dice.one(&["32", "40"]));
        if dice.coin() {
            self.set(header, "temperature", dice.one(&["0.5", "0.8"]));
        }
    }

    /// Gives `key` of the table under `header` the value `value`.
    pub fn set(&mut self, header: &str, key: &str, value: &str) {
        let table = match self.tables.iter().position(|(h, _)| h == header) {
            Some(table) => table,
            None => {
                self.tables.push((header.to_string(), Vec::new()));
                self.tables.len() - 1
            }
        };
        let keys = &mut self.tables[table].1;
        keys.retain(|(k, _)| k != key);
        keys.push((key.to_string(), value.to_string()));
    }

    pub fn with(&self, edits: &[Edit]) -> File {
        let mut file = self.clone();
        for (header, key, value) in edits {
            match value {
                Some(value) => file.set(header, key, value),
                None if key.is_empty() => file.tables.retain(|(h, _)| h != header),
                None => {
                    let table = file.tables.iter_mut().find(|(h, _)| h == header);
                    table.into_iter().for_each(|(_, keys)| keys.retain(|(k, _)| k != key));
                }
            }
        }
        file
    }

    /// With other names for models, sources and analyses.
    pub fn renamed(&self, names: &BTreeMap<&str, &str>) -> File {
        let mut file = self.clone();
        for (header, keys) in &mut file.tables {
            *header = swap(header, names);
            for (key, value) in keys.iter_mut().filter(|(key, _)| key == "model" || key == "name") {
                *value = if key == "name" { "\"another\"".to_string() } else { swap(value, names) };
            }
        }
        file
    }

    /// As one writes it.
    pub fn plain(&self) -> String {
        let table = |(header, keys): &(String, Vec<(String, String)>)| {
            let keys: String = keys.iter().map(|(key, value)| format!("{key} = {value}\n")).collect();
            if header.is_empty() { keys } else { format!("[{header}]\n{keys}") }
        };
        self.tables.iter().map(table).collect()
    }

    /// The same in another order, with comments, blank lines, other spaces and broken lists.
    pub fn scrambled(&self, dice: &mut Dice) -> String {
        let mut tables = self.tables.clone();
        dice.shuffle(&mut tables[1..]);
        let mut text = String::from("# written anew\n");
        // `[activations]` as keys of the top.
        if dice.coin()
            && let Some(at) = tables.iter().position(|(header, _)| header == "activations")
        {
            let keys = tables.remove(at).1.into_iter();
            tables[0].1.extend(keys.map(|(key, value)| (format!("activations . {key}"), value)));
        }
        for (header, mut keys) in tables {
            dice.shuffle(&mut keys);
            if !header.is_empty() {
                text.push_str(dice.one(&["", "\n\n", "# a table\n", "\t"]));
                text.push_str(&format!("[ {header} ]{}\n", dice.one(&["", "  # of keys"])));
            }
            for (key, value) in keys {
                let value = if value.starts_with('[') && dice.coin() {
                    format!("[ # a list\n{},\n]", value[1..value.len() - 1].replace(", ", " ,\n\t"))
                } else {
                    value
                };
                // An empty list cannot have a comma.
                let value = value.replace("\n,\n]", "\n]");
                let (before, around, after) =
                    (dice.one(&["", "    ", "\t"]), dice.one(&["", " ", "   "]), dice.one(&["", " # why"]));
                text.push_str(&format!("{before}{key}{around}={around}{value}{after}\n"));
            }
        }
        text
    }
}

/// Every name in `text` that `names` has, replaced.
pub fn swap(text: &str, names: &BTreeMap<&str, &str>) -> String {
    let mut swapped = String::new();
    let mut word = String::new();
    for character in text.chars().chain(['\0']) {
        if character.is_alphanumeric() || character == '_' {
            word.push(character);
            continue;
        }
        swapped.push_str(names.get(word.as_str()).copied().unwrap_or(&word));
        word.clear();
        swapped.extend((character != '\0').then_some(character));
    }
    swapped
}

pub fn fixture_folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// A folder with what drawn experiments read.
pub fn data() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let rows: String =
        ["happy", "sad", "angry", "calm", "proud", "afraid", "desperate", "loving", "guilty", "surprised"]
            .iter()
            .map(|e| format!("{e},{e},They were so.,It was as it was.,a hall,a day\n"))
            .collect();
    let head = "emotion,feeling,text,other,topic,kind\n";
    std::fs::write(dir.path().join("stories.csv"), format!("{head}{rows}")).unwrap();
    std::fs::write(dir.path().join("more.csv"), format!("{head}{rows}{rows}")).unwrap();
    std::fs::write(dir.path().join("copy.csv"), format!("{head}{rows}")).unwrap();
    for (name, said) in [("logs", "Why?"), ("more", "How?"), ("calm", "When?")] {
        let line = format!(
            "{{\"messages\": [{{\"role\": \"user\", \"content\": \"{said}\"}}], \"outcome\": \"bad\", \"at\": 0, \
             \"emotion\": \"happy\", \"other\": \"sad\"}}\n"
        );
        std::fs::write(dir.path().join(format!("{name}.jsonl")), line).unwrap();
    }
    for (name, by) in [("theirs", 1.0f32), ("others", 2.0)] {
        let data: Vec<u8> = (0..32).flat_map(|i| (i as f32 * by).to_le_bytes()).collect();
        let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![1, 32], &data).unwrap();
        let bytes = safetensors::serialize([("happy", &view), ("sad", &view)], None).unwrap();
        std::fs::write(dir.path().join(format!("{name}.safetensors")), bytes).unwrap();
    }
    let norms = "word,valence,arousal\nhappy,0.9,0.5\nsad,0.1,0.3\n";
    std::fs::write(dir.path().join("norms.csv"), norms).unwrap();
    std::fs::write(dir.path().join("norms-copy.csv"), norms).unwrap();
    std::fs::write(dir.path().join("norms-more.csv"), format!("{norms}calm,0.8,0.1\n")).unwrap();
    std::fs::write(dir.path().join("labels.csv"), "text,label\nYes.,yes\n").unwrap();
    let set = "about = \"\"\n[[cases]]\nname = \"door\"\nturns = [\"Open it.\"]\ncontrol = false\n[[outcomes]]\nname = \"o\"\nany = [\"yes\"]\n";
    for (name, before, after) in [
        ("set", "door", "door"),
        ("patterns", "\"yes\"", "\"no\""),
        ("control", "control = false", "control = true"),
        ("named", "\"door\"", "\"gate\""),
    ] {
        std::fs::write(dir.path().join(format!("{name}.toml")), set.replace(before, after)).unwrap();
    }
    dir
}

/// The plan of a file's text; `{data}` in it stands for `data`.
pub fn plan(text: &str, data: &Path) -> Plan {
    let fixtures = fixture_folder("");
    let text = text.replace("{data}", &data.display().to_string());
    let text = text.replace("{fixtures}/", &fixtures.display().to_string());
    let experiment =
        Experiment::parse(&data.join("exp.toml"), data, &text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    let store = Store::open(data.join("cache")).unwrap();
    let device = device::choose("cpu").unwrap();
    let resolved = resolve(experiment, &store, device, true, &Silent);
    plan::build(&resolved.unwrap_or_else(|e| panic!("{e:#}\n{text}")))
}
