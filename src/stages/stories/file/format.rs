//! The formats of story files, determined by the ending of a file's name.

/// The format of a file's rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Parquet,
    /// One JSON object per line.
    JsonLines,
    /// One JSON document.
    Json,
    /// Fields separated by commas, semicolons or tabs, below a header line.
    Csv,
    /// The same, with tabs preferred.
    Tsv,
    /// One text per line.
    Lines,
}

/// The compression of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    None,
    Gzip,
    Zstd,
}

/// The known formats, as a message for people.
pub const KNOWN: &str =
    "known formats, by the file's ending: .parquet, .jsonl, .json, .csv, .tsv, .txt, each also .gz or .zst";

impl Format {
    /// The spelling in cache keys.
    pub fn name(self) -> &'static str {
        match self {
            Format::Parquet => "parquet",
            Format::JsonLines => "jsonl",
            Format::Json => "json",
            Format::Csv => "csv",
            Format::Tsv => "tsv",
            Format::Lines => "txt",
        }
    }

    /// The format and packing of a file with this name, or the reason why it is not read.
    pub fn of(name: &str) -> Result<(Format, Packing), &'static str> {
        let name = name.rsplit('/').next().unwrap_or_default().to_lowercase();
        let (stem, packing) = match name.rsplit_once('.') {
            Some((stem, "gz")) => (stem, Packing::Gzip),
            Some((stem, "zst")) => (stem, Packing::Zstd),
            _ => (name.as_str(), Packing::None),
        };
        let format = match stem.rsplit_once('.').map(|(_, ending)| ending) {
            Some("parquet") => Format::Parquet,
            Some("jsonl" | "ndjson") => Format::JsonLines,
            Some("json") => Format::Json,
            Some("csv") => Format::Csv,
            Some("tsv" | "tab") => Format::Tsv,
            Some("txt") => Format::Lines,
            Some("bz2" | "xz" | "zip" | "tar" | "tgz" | "7z") => {
                return Err(
                    "has an unsupported compression: decompress it, or compress it with gzip or zstd",
                );
            }
            Some("xls" | "xlsx" | "ods") => return Err("is a spreadsheet: save it as `.csv` (UTF-8)"),
            _ => return Err("has an unknown format"),
        };
        Ok((format, packing))
    }
}

/// A file's name without its format's endings.
pub fn stem(name: &str) -> &str {
    let name = name.rsplit('/').next().unwrap_or_default();
    let unpacked = name.strip_suffix(".gz").or_else(|| name.strip_suffix(".zst")).unwrap_or(name);
    unpacked.rsplit_once('.').map_or(unpacked, |(stem, _)| stem)
}

/// The reason why a file with this name is not read; `None` if it is.
pub fn refused(name: &str) -> Option<&'static str> {
    Format::of(name).err()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ending_says_the_format_and_the_packing() {
        for (name, format, packing) in [
            ("a.parquet", Format::Parquet, Packing::None),
            ("x/a.JSONL", Format::JsonLines, Packing::None),
            ("a.b.csv", Format::Csv, Packing::None),
            ("a.jsonl.gz", Format::JsonLines, Packing::Gzip),
            ("a.tsv.zst", Format::Tsv, Packing::Zstd),
            ("a.json", Format::Json, Packing::None),
            ("sad.txt", Format::Lines, Packing::None),
        ] {
            assert_eq!(Format::of(name), Ok((format, packing)), "{name}");
        }
        for (name, why) in [
            ("a.csv.bz2", "unsupported compression"),
            ("a.zip", "unsupported compression"),
            ("a.xlsx", "spreadsheet"),
            ("README.md", "unknown format"),
            ("x.csv/a", "unknown format"),
            ("a.gz", "unknown format"),
        ] {
            assert!(refused(name).is_some_and(|said| said.contains(why)), "{name}");
        }
    }

    #[test]
    fn a_name_without_its_endings() {
        for (name, want) in
            [("x/sad.txt", "sad"), ("at ease.csv.gz", "at ease"), ("a.b.jsonl", "a.b"), ("sad", "sad")]
        {
            assert_eq!(stem(name), want);
        }
    }
}
