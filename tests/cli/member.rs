//! Weights whose published digest is that of the file inside a zip, as pytorchcv's.

use std::fs;

use crate::run::{fixture, run};

#[test]
fn the_file_inside_is_what_the_digest_is_compared_with() {
    // As `unzip -p nested_stored.zip | sha256sum` prints it: the member is pytorch_more's plain zip form.
    let archive = fixture("pytorch_more/nested_stored.zip");
    let bytes = fs::read(&archive).unwrap();
    let start = bytes.windows(4).skip(1).position(|window| window == b"PK\x03\x04").unwrap() + 1;
    let end = bytes.windows(4).rposition(|window| window == b"PK\x01\x02").unwrap();
    let right = densenet_converters::sha256(&bytes[start..end]);
    for (digest, code) in [(right.clone(), 0), ("0".repeat(64), 1)] {
        let folder = tempfile::tempdir().unwrap();
        let zoo = folder.path().join("zoo.toml");
        let text = format!(
            r#"
            [[weight]]
            name = "tiny.zipped"
            format = "pytorch"
            protocol = "pil-bilinear"
            licence = "none stated"
            provenance = "made for the tests"
            [weight.network]
            block_config = [2, 2, 2, 2]
            growth_rate = 4
            num_init_features = 8
            stem = "imagenet"
            bn_size = 4
            compression = 0.5
            num_classes = 10
            [weight.file]
            name = "densenet_tiny.pth.zip"
            urls = ["file://{}"]
            member = {{ name = "densenet_tiny.pth", sha256 = "{digest}" }}
            "#,
            archive.display()
        );
        fs::write(&zoo, text).unwrap();
        let outcome = run(folder.path(), &["fetch", "tiny.zipped", "--zoo", zoo.to_str().unwrap()]);
        assert_eq!(outcome.code, code, "{}", outcome.stderr);
        if code == 0 {
            assert!(outcome.stdout.contains("verified by: sha256 of the file inside"), "{}", outcome.stdout);
        } else {
            assert!(
                outcome.stderr.contains(&right) && outcome.stderr.contains("densenet_tiny.pth: wrong sha256"),
                "{}",
                outcome.stderr
            );
            // Nothing wrong is kept.
            let outcome = run(folder.path(), &["cache", "list"]);
            assert_eq!(outcome.stdout, "nothing is cached\n");
        }
    }
}

#[test]
fn catalogues_must_be_signed_where_that_is_asked_for() {
    let cache = tempfile::tempdir().unwrap();
    let key = fixture("minisign/zoo.pub");
    let signed = fixture("minisign/signed.toml");
    let list = |zoo: &str, key: &str| {
        run(cache.path(), &["list", "--format", "json", "--zoo", zoo, "--require-signature", key])
    };
    let outcome = list(signed.to_str().unwrap(), key.to_str().unwrap());
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    assert!(outcome.stdout.contains("tiny.signed"));
    // The key itself, as minisign prints it.
    let text = fs::read_to_string(&key).unwrap();
    assert_eq!(list(signed.to_str().unwrap(), text.lines().nth(1).unwrap()).code, 0);
    let tampered = cache.path().join("signed.toml");
    fs::write(&tampered, fs::read_to_string(&signed).unwrap().replace("74315", "74316")).unwrap();
    fs::copy(fixture("minisign/signed.toml.minisig"), cache.path().join("signed.toml.minisig")).unwrap();
    let outcome = list(tampered.to_str().unwrap(), key.to_str().unwrap());
    assert_eq!(outcome.code, 1);
    assert!(outcome.stderr.contains("not as it was signed"), "{}", outcome.stderr);
    assert_eq!(list(signed.to_str().unwrap(), fixture("minisign/other.pub").to_str().unwrap()).code, 1);
    assert_eq!(list(signed.to_str().unwrap(), "nonsense").code, 2);
}
