//! The lines of a text file, decompressed and decoded to UTF-8, with their numbers. Independent of the format.

use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail, ensure};

use super::format::Packing;

/// Limit on a line, or on a row of several lines; in bytes.
pub const LONGEST: usize = 64 << 20;

/// The decompressed content of a file.
pub fn unpacked(path: &Path, packing: Packing) -> Result<Box<dyn Read>> {
    let mut file = BufReader::new(fs_err::File::open(path)?);
    let is = of_bytes(file.fill_buf()?);
    let packed = match packing {
        Packing::None => None,
        Packing::Gzip => Some(GZIP),
        Packing::Zstd => Some(ZSTD),
    };
    match (is, packed) {
        (Some(is), None) => bail!("it is {is}, which its name does not say: rename it, or unpack it"),
        (is, Some(name)) if is != packed => {
            let is = is.map_or("not".to_string(), |is| is.to_string());
            bail!("its name says that it is {name}, and it is {is}: rename it")
        }
        _ => {}
    }
    Ok(match packing {
        Packing::None => Box::new(file),
        Packing::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(file)),
        Packing::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(file)?),
    })
}

/// The error for a compressed file that is truncated or damaged.
fn whole(error: io::Error) -> anyhow::Error {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => anyhow!("the packed file ends too early: fetch or pack it again"),
        _ => error.into(),
    }
}

const GZIP: &str = "packed with gzip";
const ZSTD: &str = "packed with zstd";

/// The kind of a binary file that begins with these bytes; `None` if it may be text.
fn of_bytes(first: &[u8]) -> Option<&'static str> {
    const KINDS: [(&[u8], &str); 6] = [
        (&[0x1f, 0x8b], GZIP),
        (&[0x28, 0xb5, 0x2f, 0xfd], ZSTD),
        (b"PAR1", "a Parquet file"),
        (b"ARROW1", "an Arrow file"),
        (b"PK\x03\x04", "a zip archive, as Excel's files are"),
        (&[0xfd, b'7', b'z', b'X', b'Z', 0], "packed with xz"),
    ];
    KINDS.into_iter().find(|(begin, _)| first.starts_with(begin)).map(|(_, kind)| kind)
}

/// An error if the file is the pointer that Git LFS leaves in place of a large file.
pub fn refuse_pointer(path: &Path) -> Result<()> {
    const POINTER: &[u8] = b"version https://git-lfs";
    let mut first = Vec::new();
    fs_err::File::open(path)?.take(POINTER.len() as u64).read_to_end(&mut first)?;
    ensure!(
        first != POINTER,
        "it is a pointer of Git LFS, not the file itself: `git lfs pull` in the folder that was cloned fetches it"
    );
    Ok(())
}

/// The lines of a file, ended by LF, CRLF or CR.
pub struct Lines {
    reader: Box<dyn BufRead>,
    /// The number of the last line that was returned, from 1.
    pub number: usize,
    /// The bytes read up to an LF, and how many of them were returned.
    bytes: Vec<u8>,
    given: usize,
    path: PathBuf,
}

impl Lines {
    /// Opens the file. UTF-8, or UTF-16 with a byte-order mark.
    pub fn open(path: &Path, packing: Packing) -> Result<Lines> {
        let mut reader = unpacked(path, packing)?;
        let mut first = Vec::new();
        reader.by_ref().take(4).read_to_end(&mut first).map_err(whole)?;
        let (skip, big) = match first.as_slice() {
            [0xff, 0xfe, 0, 0] | [0, 0, 0xfe, 0xff] => bail!("it is UTF-32: save it as UTF-8"),
            [0xef, 0xbb, 0xbf, ..] => (3, None),
            [0xff, 0xfe, ..] => (2, Some(false)),
            [0xfe, 0xff, ..] => (2, Some(true)),
            _ => (0, None),
        };
        let reader = io::Cursor::new(first.split_off(skip)).chain(reader);
        let reader: Box<dyn BufRead> = match big {
            None => Box::new(BufReader::new(reader)),
            Some(big) => Box::new(BufReader::new(Utf16 { reader, big, high: None, out: Vec::new() })),
        };
        Ok(Lines { reader, number: 0, bytes: Vec::new(), given: 0, path: path.to_path_buf() })
    }

    /// The next line without its line ending.
    ///
    /// An error names the line, and says what to do if it is not UTF-8.
    pub fn next(&mut self) -> Result<Option<&str>> {
        let at = self.number + 1;
        if self.given >= self.bytes.len() {
            (self.given, _) = (0, self.bytes.clear());
            let bounded = &mut (&mut self.reader).take(LONGEST as u64 + 1);
            let read = bounded.read_until(b'\n', &mut self.bytes).map_err(whole);
            let read = read.with_context(|| format!("line {at}"))?;
            ensure!(read <= LONGEST, "line {at} has more than {} MiB: no file of stories", LONGEST >> 20);
            if read == 0 {
                return Ok(None);
            }
        }
        self.number = at;
        let rest = &self.bytes[self.given..];
        let (line, taken) = match rest.iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
            None => (rest, rest.len()),
            Some(end) if rest[end..].starts_with(b"\r\n") => (&rest[..end], end + 2),
            Some(end) => (&rest[..end], end + 1),
        };
        self.given += taken;
        if line.contains(&0) {
            bail!("line {at} holds a zero byte: no text, or UTF-16 without its mark; save it as UTF-8");
        }
        match std::str::from_utf8(line) {
            Ok(line) => Ok(Some(line)),
            Err(error) => bail!("line {at} {}", not_utf8(&self.path, line, &error)),
        }
    }

    /// The rest of the file, at most `most` bytes.
    pub fn rest(&mut self, most: usize) -> Result<String> {
        let mut all = String::new();
        while let Some(line) = self.next()? {
            all.push_str(line);
            all.push('\n');
            ensure!(all.len() <= most, "it is larger than {} MiB", most >> 20);
        }
        Ok(all)
    }
}

/// The problem with a line, and the command that fixes the file.
fn not_utf8(path: &Path, line: &[u8], error: &std::str::Utf8Error) -> String {
    let byte = line[error.valid_up_to()];
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    format!(
        "is not UTF-8 (byte 0x{byte:02x}): save the file as UTF-8; if it is Latin-1, as Windows writes it: \
         iconv -f WINDOWS-1252 -t UTF-8 '{name}' > 'utf8-{name}'"
    )
}

/// Decodes UTF-16 to UTF-8.
struct Utf16<R> {
    reader: R,
    big: bool,
    /// The first half of a surrogate pair.
    high: Option<u16>,
    out: Vec<u8>,
}

impl<R: Read> Utf16<R> {
    /// Decodes the next units into `out`, which stays empty at the end of the file.
    fn fill(&mut self) -> io::Result<()> {
        let wrong = |what: &str| io::Error::new(io::ErrorKind::InvalidData, format!("UTF-16 with {what}"));
        let mut bytes = Vec::with_capacity(1 << 13);
        self.reader.by_ref().take(1 << 13).read_to_end(&mut bytes)?;
        if bytes.len() % 2 == 1 {
            return Err(wrong("half a character at its end"));
        }
        let unit = |pair: &[u8]| match self.big {
            true => u16::from_be_bytes([pair[0], pair[1]]),
            false => u16::from_le_bytes([pair[0], pair[1]]),
        };
        let ended = bytes.is_empty();
        let mut units: Vec<u16> =
            self.high.take().into_iter().chain(bytes.chunks_exact(2).map(unit)).collect();
        if !ended {
            self.high = units.pop_if(|unit| matches!(unit, 0xd800..0xdc00));
        }
        let text = String::from_utf16(&units).map_err(|_| wrong("half a pair"))?;
        self.out.extend(text.bytes().rev());
        if self.out.is_empty() && !ended { self.fill() } else { Ok(()) }
    }
}

impl<R: Read> Read for Utf16<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.out.is_empty() {
            self.fill()?;
        }
        let count = self.out.len().min(buffer.len());
        buffer[..count].fill_with(|| self.out.pop().expect("there are so many"));
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn lines(bytes: &[u8], packing: Packing) -> Result<Vec<(usize, String)>> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("s.csv");
        fs_err::write(&path, bytes)?;
        let mut lines = Lines::open(&path, packing)?;
        let mut all = Vec::new();
        while let Some(line) = lines.next()?.map(str::to_string) {
            all.push((lines.number, line));
        }
        Ok(all)
    }

    fn utf16(text: &str, big: bool) -> Vec<u8> {
        let units = std::iter::once(0xfeff).chain(text.encode_utf16());
        units.flat_map(|unit| if big { unit.to_be_bytes() } else { unit.to_le_bytes() }).collect()
    }

    #[test]
    fn a_pointer_of_git_lfs_is_told_with_its_remedy() {
        let folder = tempfile::tempdir().unwrap();
        for (text, is_pointer) in [
            ("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", true),
            ("version\n", false),
            ("", false),
        ] {
            let path = folder.path().join("s.parquet");
            fs_err::write(&path, text).unwrap();
            let said = refuse_pointer(&path).err().map(|error| error.to_string()).unwrap_or_default();
            assert_eq!(said.contains("git lfs pull"), is_pointer, "{text}");
        }
    }

    #[test]
    fn any_line_end_ends_a_line_and_is_counted_once() {
        let want = [(1, "a".to_string()), (2, String::new()), (3, "b".to_string())];
        for text in ["a\n\nb", "a\r\n\r\nb\r\n", "a\r\rb\r", "\u{feff}a\n\r\nb\n"] {
            assert_eq!(lines(text.as_bytes(), Packing::None).unwrap(), want, "{text:?}");
        }
        assert!(lines(b"", Packing::None).unwrap().is_empty());
    }

    /// Long enough that a surrogate pair falls on the border between two decoded blocks.
    #[test]
    fn utf_16_is_read_as_what_it_says() {
        for lead in ["", "a"] {
            let text = format!("{lead}{}", "😀é".repeat(4000));
            for big in [false, true] {
                let read = lines(&utf16(&format!("{text}\r\nx"), big), Packing::None).unwrap();
                assert_eq!(read, [(1, text.clone()), (2, "x".to_string())]);
            }
        }
        let mut odd = utf16("ab", true);
        odd.pop();
        assert!(format!("{:#}", lines(&odd, Packing::None).unwrap_err()).contains("half a character"));
    }

    #[test]
    fn packed_files_are_unpacked_with_all_their_members() {
        let gzip = |text: &str| {
            let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            writer.write_all(text.as_bytes()).unwrap();
            writer.finish().unwrap()
        };
        let zstd = |text: &str| zstd::stream::encode_all(text.as_bytes(), 1).unwrap();
        let want = [(1, "a".to_string()), (2, "b".to_string())];
        assert_eq!(lines(&[gzip("a\n"), gzip("b")].concat(), Packing::Gzip).unwrap(), want);
        assert_eq!(lines(&[zstd("a\n"), zstd("b")].concat(), Packing::Zstd).unwrap(), want);
        let half = &gzip("a\nb\n")[..12];
        let said = |bytes: &[u8], packing| format!("{:#}", lines(bytes, packing).unwrap_err());
        assert!(said(half, Packing::Gzip).contains("the packed file ends too early"));
        let half = zstd(&"some words ".repeat(99));
        assert!(said(&half[..half.len() - 9], Packing::Zstd).contains("ends too early"));
        assert!(
            said(b"a\n", Packing::Zstd)
                .contains("its name says that it is packed with zstd, and it is not: rename it")
        );
        assert!(
            said(&zstd("a"), Packing::Gzip)
                .contains("that it is packed with gzip, and it is packed with zstd: rename it")
        );
        assert!(
            said(b"PAR1...", Packing::None).contains("it is a Parquet file, which its name does not say")
        );
    }

    #[test]
    fn what_is_no_utf_8_is_told_with_its_line_and_the_remedy() {
        let said = |bytes: &[u8]| format!("{:#}", lines(bytes, Packing::None).unwrap_err());
        let latin = said(b"a\r\ncaf\xe9\r\n");
        assert!(latin.contains("line 2 is not UTF-8 (byte 0xe9)") && latin.contains("iconv"), "{latin}");
        assert!(said(b"a\0b\0\n\0").contains("UTF-16 without its mark"));
        assert!(said(&[0xff, 0xfe, 0, 0, 0x61, 0, 0, 0]).contains("UTF-32"));
    }
}
