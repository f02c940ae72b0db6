//! Round trips: exported files are read back with independent readers.

use anamnesis::{GgufMetadataValue, ParseLimits, parse_gguf_front_matter_from_reader_with_limits};

use super::*;

fn directions(layers: &[Layer]) -> Directions {
    let emotion = |name: &str, from: f32| Emotion {
        name: name.to_string(),
        values: (0..layers.len() * 3).map(|i| from + i as f32).collect(),
    };
    Directions {
        layers: layers.to_vec(),
        d_model: 3,
        resid_norm: (0..layers.len()).map(|at| 5.0 + at as f32).collect(),
        emotions: vec![emotion("happy", 1.0), emotion("très/triste", -20.0)],
        model_type: "llama".into(),
        provenance: vec![("emoflow.model".into(), "models/demo".into())],
    }
}

const LAYERS: [Layer; 2] = [Layer::Block(4), Layer::Block(7)];

#[test]
fn a_strength_of_1_is_what_the_metadata_say() {
    let one = directions(&LAYERS);
    let happy = &one.emotions[0];
    // |(1, 2, 3)| = sqrt(14), |(4, 5, 6)| = sqrt(77).
    assert_eq!(one.strength_1(happy), [(14f64.sqrt() / 5.0) as f32, (77f64.sqrt() / 6.0) as f32]);
    let scaled = one.clone().scaled(Unit::ResidNorm).unwrap();
    for strength in scaled.strength_1(&scaled.emotions[0]) {
        assert!((strength - 1.0).abs() < 1e-6, "{strength}");
    }
    let (before, after) =
        (happy.values[2] / happy.values[0], scaled.emotions[0].values[2] / scaled.emotions[0].values[0]);
    assert!((before - after).abs() < 1e-5, "the direction is the same");
    assert_eq!(one.clone().scaled(Unit::Vector).unwrap(), one);
    let mut zero = one;
    zero.emotions[1].values[3..].fill(0.0);
    let error = zero.scaled(Unit::ResidNorm).unwrap_err().to_string();
    assert_eq!(error, "the vector of `très/triste` at layer 7 is zero");
}

#[test]
fn gguf_has_one_direction_a_block() {
    let all = directions(&LAYERS);
    let bytes = gguf::bytes(&all, &all.emotions[0]).unwrap();
    let front = parse_gguf_front_matter_from_reader_with_limits(
        std::io::Cursor::new(&bytes),
        &ParseLimits::default(),
    )
    .unwrap();
    let word = |key: &str| front.metadata[key].as_string().unwrap().to_string();
    assert_eq!(word("general.architecture"), "controlvector");
    assert_eq!(word("controlvector.model_hint"), "llama");
    assert_eq!(word("emoflow.emotion"), "happy");
    assert!(matches!(front.metadata["controlvector.layer_count"], GgufMetadataValue::U32(2)));
    let named: Vec<&str> = front.tensor_infos.iter().map(|info| info.name.as_str()).collect();
    assert_eq!(named, ["direction.4", "direction.7"]);
    for (info, expected) in front.tensor_infos.iter().zip([[1.0f32, 2.0, 3.0], [4.0, 5.0, 6.0]]) {
        assert_eq!((info.shape.as_slice(), info.dtype.to_string().as_str()), (&[3][..], "F32"));
        let at = info.data_offset as usize;
        assert_eq!(at % 32, 0);
        let values: Vec<f32> =
            bytes[at..at + 12].chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
        assert_eq!(values, expected);
    }
    assert_eq!(bytes.len() % 32, 0);
}

#[test]
fn gguf_has_no_place_before_block_1() {
    let layers = [Layer::Embed, Layer::Block(0), Layer::Block(1)];
    assert_eq!(Directions::not_for_gguf(&layers), layers[..2]);
    for layer in &layers[..2] {
        let all = directions(&[*layer]);
        let error = gguf::bytes(&all, &all.emotions[0]).unwrap_err().to_string();
        assert_eq!(error, format!("a GGUF control vector has no place for layer {layer}"));
    }
}

#[test]
fn safetensors_are_read_back() {
    let bytes = safetensors::bytes(&directions(&LAYERS)).unwrap();
    let read = ::safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let happy = read.tensor("happy").unwrap();
    assert_eq!(happy.shape(), [2, 3]);
    let values: Vec<f32> =
        happy.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
    assert_eq!(values, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let (_, metadata) = ::safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    let said = metadata.metadata().as_ref().unwrap();
    assert_eq!(said["emoflow.layers"], "[4,7]");
    assert_eq!(said["emoflow.layer_convention"], "resid_post, 0-based block");
    assert_eq!(said["emoflow.resid_norm"], "[5.0,6.0]");
    assert_eq!(said["emoflow.model"], "models/demo");
}

#[test]
fn npz_is_a_zip_of_arrays() {
    let bytes = npz::bytes(&directions(&[Layer::Embed, Layer::Block(7)])).unwrap();
    let mut zip = zip::ZipArchive::new(std::io::Cursor::new(bytes)).unwrap();
    let mut array = |name: &str| {
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut zip.by_name(&format!("{name}.npy")).unwrap(), &mut bytes).unwrap();
        assert_eq!(&bytes[..8], b"\x93NUMPY\x01\x00");
        let data = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
        assert_eq!(data % 64, 0);
        let head = String::from_utf8(bytes[10..data].to_vec()).unwrap();
        assert!(head.ends_with('\n'));
        (head.trim_end().to_string(), bytes[data..].to_vec())
    };
    let (head, data) = array("très/triste");
    assert_eq!(head, "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3,), }");
    assert_eq!(data[..4], (-20f32).to_le_bytes());
    let (head, data) = array("emoflow.layers");
    assert_eq!(head, "{'descr': '<i8', 'fortran_order': False, 'shape': (2,), }");
    assert_eq!(data, [(-1i64).to_le_bytes(), 7i64.to_le_bytes()].concat());
    let (head, data) = array("emoflow");
    assert_eq!(head, format!("{{'descr': '<U{}', 'fortran_order': False, 'shape': (), }}", data.len() / 4));
    let text: String = data
        .chunks_exact(4)
        .map(|c| char::from_u32(u32::from_le_bytes(c.try_into().unwrap())).unwrap())
        .collect();
    let said: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(said["emoflow.layers"], json!(["embed", 7]));
}

#[test]
fn files_of_emotions_have_names_of_their_own() {
    let emotions = ["happy", "très/triste", "très triste", "un-happy"]
        .map(|name| Emotion { name: name.into(), values: Vec::new() });
    assert_eq!(file_names(&emotions), ["happy", "très_triste", "très_triste-2", "un-happy"]);
}
