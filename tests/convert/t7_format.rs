//! Every file of torch7/format against what Torch itself read from it, value by value.

use std::collections::HashMap;

use densenet_converters::t7::{File, Item, Value, read};
use densenet_converters::{DType, Tensor};
use serde_json::Value as Json;

use super::{bytes, tensors};

/// Compares a value with its description; `ids` pairs Torch's object identities with ours.
fn compare(file: &File, value: Value, expected: &Json, ids: &mut HashMap<u64, Value<'static>>, place: &str) {
    let kind = expected["t"].as_str().unwrap_or_else(|| panic!("{place}: {expected}"));
    if let Value::Item(number) = value
        && let Some(id) = expected["id"].as_u64()
    {
        let met = ids.insert(id, Value::Item(number));
        assert_eq!(met.is_some(), kind == "ref", "{place}");
        assert_eq!(met.unwrap_or(Value::Item(number)), Value::Item(number), "{place}: another object");
    }
    match (kind, value) {
        ("nil", Value::Nil) | ("ref", Value::Item(_)) => {}
        ("number", Value::Number(found)) => assert!(same(found, &expected["v"]), "{place}: {found}"),
        ("bool", Value::Boolean(found)) => assert_eq!(Some(found), expected["v"].as_bool(), "{place}"),
        ("string", Value::Text(found)) => assert_eq!(text(&expected["v"]), found, "{place}"),
        ("table", Value::Item(_)) => compare_pairs(file, value, expected, ids, place),
        ("object", Value::Item(_)) => {
            assert_eq!(file.class(value), expected["class"].as_str(), "{place}");
            compare_pairs(file, value, expected, ids, place);
        }
        ("function", Value::Item(_)) => assert!(matches!(file.item(value), Some(Item::Function { .. })), "{place}"),
        ("storage", Value::Item(_)) => {
            let Some(Item::Storage(vector)) = file.item(value) else { panic!("{place} is no storage") };
            assert_eq!(Some(vector.elements() as u64), expected["n"].as_u64(), "{place}");
            compare_values(vector, expected, place);
        }
        ("tensor", Value::Item(_)) => {
            let Some(Item::Tensor { tensor, storage }) = file.item(value) else { panic!("{place} is no tensor") };
            if expected["storage"].is_null() {
                assert_eq!(*storage, Value::Nil, "{place}");
            } else {
                compare(file, *storage, &expected["storage"], ids, &format!("{place}.storage"));
            }
            match tensor {
                None => assert_eq!(expected["size"].as_array().map(Vec::len), Some(0), "{place}"),
                Some(tensor) => {
                    let sizes = |name: &str| -> Vec<usize> {
                        expected[name].as_array().unwrap().iter().map(|n| n.as_u64().unwrap() as usize).collect()
                    };
                    assert_eq!(tensor.shape(), sizes("size"), "{place}");
                    assert_eq!(tensor.strides(), sizes("stride"), "{place}");
                    assert_eq!(class(tensor.dtype()), expected["class"].as_str().unwrap(), "{place}");
                    compare_values(tensor, expected, place);
                }
            }
        }
        (kind, found) => panic!("{place}: {found:?} where {kind} is expected"),
    }
}

fn compare_pairs(file: &File, value: Value, expected: &Json, ids: &mut HashMap<u64, Value<'static>>, place: &str) {
    let pairs = file.pairs(value).unwrap_or_else(|| panic!("{place} has no pairs"));
    let entries = expected["entries"].as_array().unwrap();
    assert_eq!(pairs.len(), entries.len(), "{place}");
    for entry in entries {
        let found = pairs.iter().find(|(key, _)| match (key, entry[0]["t"].as_str()) {
            (Value::Text(key), Some("string")) => text(&entry[0]["v"]) == *key,
            (Value::Number(key), Some("number")) => same(*key, &entry[0]["v"]),
            (Value::Boolean(key), Some("bool")) => Some(*key) == entry[0]["v"].as_bool(),
            (Value::Item(_), Some("table" | "ref")) => true,
            _ => false,
        });
        let (_, inner) = found.unwrap_or_else(|| panic!("{place} lacks {}", entry[0]));
        compare(file, *inner, &entry[1], ids, &format!("{place}[{}]", entry[0]["v"]));
    }
}

fn compare_values(tensor: &Tensor, expected: &Json, place: &str) {
    let data = tensor.to_bytes().unwrap();
    let found: Vec<f64> = match tensor.dtype() {
        DType::F64 | DType::F32 | DType::F16 => tensor.to_f64().unwrap(),
        DType::I64 => tensor.to_i64().unwrap().into_iter().map(|n| n as f64).collect(),
        DType::I32 => data.as_chunks().0.iter().map(|&b| f64::from(i32::from_le_bytes(b))).collect(),
        DType::I16 => data.as_chunks().0.iter().map(|&b| f64::from(i16::from_le_bytes(b))).collect(),
        DType::I8 => data.iter().map(|&b| f64::from(b as i8)).collect(),
        DType::U8 => data.iter().map(|&b| f64::from(b)).collect(),
        other => panic!("{place}: {other:?}"),
    };
    let values = expected["values"].as_array().unwrap();
    assert_eq!(found.len(), values.len(), "{place}");
    for (found, expected) in found.iter().zip(values) {
        assert!(same(*found, expected), "{place}: {found} where {expected} is expected");
    }
}

fn same(found: f64, expected: &Json) -> bool {
    match expected.as_str() {
        Some("nan") => found.is_nan(),
        Some("inf") => found == f64::INFINITY,
        Some("-inf") => found == f64::NEG_INFINITY,
        _ => expected.as_f64() == Some(found),
    }
}

/// Bytes of 0x80 and above are written as characters of that number.
fn text(json: &Json) -> Vec<u8> {
    json.as_str().unwrap().chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect()
}

fn class(dtype: DType) -> &'static str {
    match dtype {
        DType::F64 => "torch.DoubleTensor",
        DType::F32 => "torch.FloatTensor",
        DType::F16 => "torch.HalfTensor",
        DType::I64 => "torch.LongTensor",
        DType::I32 => "torch.IntTensor",
        DType::I16 => "torch.ShortTensor",
        DType::I8 => "torch.CharTensor",
        DType::U8 => "torch.ByteTensor",
        DType::BF16 | DType::Bool => "none of Torch's",
    }
}

#[test]
fn every_file_holds_what_torch_read() {
    let expected: Json = serde_json::from_slice(&bytes("torch7/format/expected.json")).unwrap();
    let files = expected.as_object().unwrap();
    assert_eq!(files.len(), 37);
    for (name, entry) in files {
        let bytes = bytes(&format!("torch7/format/{name}"));
        let file = read(&bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
        let mut ids = HashMap::new();
        if name == "two_objects.t7" {
            // Described as a table of both.
            for (number, (root, entry)) in
                file.roots().iter().zip(entry["value"]["entries"].as_array().unwrap()).enumerate()
            {
                compare(&file, *root, &entry[1], &mut ids, &format!("{name}#{number}"));
            }
            assert_eq!(file.roots().len(), 2);
            continue;
        }
        assert_eq!(file.roots().len(), 1, "{name}");
        compare(&file, file.roots()[0], &entry["value"], &mut ids, name);
    }
}

#[test]
fn data_sets_and_checkpoint_tables_are_readable() {
    let data = bytes("torch7/format/datasets/data_batch_1.t7");
    let batch = read(&data).unwrap();
    let columns = batch.tensor(batch.field(batch.roots()[0], "data").unwrap()).unwrap();
    assert_eq!(columns.shape(), [3072, 4]);
    let data = bytes("torch7/format/datasets/cifar10_cache.t7");
    let cache = read(&data).unwrap();
    // The images of the batch, one column each, become those of both parts, one after the other.
    let mut reference = tensors(&bytes("torch7/format/datasets/cifar10.ref.safetensors"));
    for (field, name) in [("data", "images_nchw"), ("labels", "labels_1based")] {
        let (_, shape, expected) = reference.remove(name).unwrap();
        let part = |name: &str| {
            let part = cache.field(cache.roots()[0], name).unwrap();
            cache.tensor(cache.field(part, field).unwrap()).unwrap()
        };
        let (train, val) = (part("train"), part("val"));
        assert_eq!(train.shape()[1..], shape[1..], "{name}");
        let found = [train, val].map(|tensor| tensor.to_bytes().unwrap());
        assert!(found.iter().any(|found| expected.starts_with(found)), "{name}");
    }

    let data = bytes("torch7/a_cifar_bc_mem2/optimState_1.t7");
    let state = read(&data).unwrap();
    let root = state.roots()[0];
    assert_eq!(state.number(root, "momentum"), Some(0.9));
    assert_eq!(state.boolean(root, "nesterov"), Some(true));
    assert_eq!(state.tensor(state.field(root, "dfdx").unwrap()).unwrap().shape(), [8714]);
    let data = bytes("torch7/a_cifar_bc_mem2/latest.t7");
    let latest = read(&data).unwrap();
    let root = latest.roots()[0];
    assert_eq!(latest.number(root, "epoch"), Some(1.0));
    assert_eq!(latest.text(root, "modelFile"), Some("model_1.t7"));
    assert_eq!(latest.text(root, "optimFile"), Some("optimState_1.t7"));
}
