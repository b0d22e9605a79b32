//! Little that inflates to much, and entries that lie over one another.

use super::{bounded, refused};
use crate::harness::alone;
use crate::make::{Member, Pickle, Zip, crc, zip};

#[test]
fn zeros_deflated() {
    let _alone = alone();
    let floats = |count: i64| move |pickle: Pickle| pickle.storage("FloatStorage", "0", count);
    let object = |count| Pickle::new(2).op(b"}").text("w").tensor(floats(count), 0, &[4], &[1]).op(b"s").stop();
    for megabytes in [16, 31, 80] {
        let data = vec![0; megabytes << 20];
        let object = object((megabytes << 18) as i64);
        let bytes = zip(&[("a/data.pkl", Member::Stored(&object)), ("a/data/0", Member::Deflated(&data))]);
        bounded("zeros as a storage", &bytes);
        bounded("zeros as the only file", &zip(&[("zeros.pth", Member::Deflated(&data))]));
        bounded("zeros as the pickle", &zip(&[("a/data.pkl", Member::Deflated(&data))]));
        let fill = Pickle::new(4).op(b"N").repeat(megabytes << 20, b")").stop();
        bounded("tuples as the pickle", &zip(&[("a/data.pkl", Member::Deflated(&fill))]));
        bounded("tuples as the only file", &zip(&[("tuples.pth", Member::Deflated(&fill))]));
        let mut longer = Zip::default();
        let deflated = crate::make::deflated(&[&data[..], &[0]].concat());
        longer.add("a/data.pkl", 8, crc(&data), &deflated, data.len());
        bounded("zeros beyond what is announced", &longer.finish());
    }
    let data = vec![0; 24 << 20];
    let object = object(6 << 20);
    let inner = zip(&[
        ("a/data.pkl", Member::Stored(&object)),
        ("a/data/0", Member::Deflated(&data)),
        ("a/x", Member::Stored(&data)),
    ]);
    bounded("a zip within a zip", &zip(&[("inner.pth", Member::Deflated(&inner))]));
    let many: Vec<_> = (0..20).map(|key| (format!("a/data/{key}"), vec![0; 2 << 20])).collect();
    let parts = Pickle::new(2).op(b"](").each(0..20, |pickle, key| {
        pickle.tensor(|pickle| pickle.storage("FloatStorage", &key.to_string(), 1 << 19), 0, &[1 << 19], &[1])
    });
    let parts = parts.op(b"e").stop();
    let mut members = vec![("a/data.pkl", Member::Stored(&parts))];
    members.extend(many.iter().map(|(name, data)| (name.as_str(), Member::Deflated(data))));
    bounded("many deflated storages", &zip(&members));
}

/// Entries that lie over one another: n of them would be n times the file to check.
#[test]
fn entries_that_overlap() {
    let _alone = alone();
    let (count, size) = (200, 1 << 20);
    let pickle = Pickle::new(2).op(b"](").each(0..count, |pickle, key| {
        pickle.tensor(|pickle| pickle.storage("ByteStorage", &key.to_string(), size as i64), 0, &[1], &[1])
    });
    let pickle = pickle.op(b"e").stop();
    let mut file = Zip::default();
    file.add("a/data.pkl", 0, crc(&pickle), &pickle, pickle.len());
    let mut places = Vec::new();
    for key in 0..count {
        let name = format!("a/data/{key}");
        places.push((name.clone(), file.bytes.len()));
        file.local(&name, 0, 0, size, size);
    }
    let end = file.bytes.len();
    file.bytes.resize(end + size, 7);
    for (name, at) in places {
        file.record(&name, 0, 0, size, size, at);
    }
    refused("overlapping entries", &file.finish(), "");
}
