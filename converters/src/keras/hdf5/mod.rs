//! HDF5, as far as h5py writes weights: groups, contiguous arrays and short texts, read in place (HDF5 File Format
//! Specification, version 3.0).
//!
//! hdf5-pure 0.47 was measured first. It never panicked over 160,000 damaged files, but it takes a copy of the file, and a file
//! of 2 MB whose attributes all name one long text makes it take 5.7 GB: names and texts are shared on disk and not in its
//! memory. So this reader borrows both. What is chunked, compressed, virtual or outside the file is refused.

mod messages;

use crate::alloc::Budget;
use crate::cursor::Cursor;
use crate::error::Error;
use crate::storage::Storage;
use crate::tensor::Tensor;
use messages::{Data, Type, dtype, layout, link, shape, small, text};

pub(crate) const FORMAT: &str = "hdf5";
const SIGNATURE: &[u8] = b"\x89HDF\r\n\x1a\n";
/// No address: something was never written.
const UNDEFINED: u64 = u64::MAX;
/// Groups in groups; Keras nests five.
const DEPTH: usize = 24;
/// Groups and arrays, and nodes of the trees that list them; DenseNet-264 has 3000.
const MOST_OBJECTS: usize = 65_536;
/// Messages of one object.
const MOST_MESSAGES: usize = 4096;
const LONGEST_NAME: usize = 1024;

/// A name, and the value where it is one text.
type Attribute<'a> = (&'a str, Option<&'a [u8]>);

/// An array, and a text that a group says of itself.
#[derive(Debug, Default)]
pub(crate) struct Contents<'a> {
    /// Arrays by their paths.
    pub(crate) arrays: Vec<(String, Tensor<'a>)>,
    /// Attributes of groups: the group's path, the name, and the value where it is one text.
    pub(crate) attributes: Vec<(String, &'a str, Option<&'a [u8]>)>,
}

/// Whether the bytes begin as HDF5.
pub(crate) fn looks_like(bytes: &[u8]) -> bool {
    bytes.starts_with(SIGNATURE)
}

/// Everything in the file.
pub(crate) fn read<'a>(bytes: &'a [u8], budget: &mut Budget) -> Result<Contents<'a>, Error> {
    let mut file = File { bytes, contents: Contents::default(), objects: 0, budget };
    let root = file.superblock()?;
    file.object(root, "", 0)?;
    Ok(file.contents)
}

struct File<'a, 'b> {
    bytes: &'a [u8],
    contents: Contents<'a>,
    objects: usize,
    budget: &'b mut Budget,
}

/// What the header of an object says.
#[derive(Default)]
struct Object<'a> {
    shape: Option<Vec<usize>>,
    dtype: Option<Type>,
    data: Option<Data<'a>>,
    /// The tree and the heap of a group's members.
    members: Option<(u64, u64)>,
    /// Members that the header itself holds.
    links: Vec<(&'a str, u64)>,
    attributes: Vec<Attribute<'a>>,
}

impl<'a> File<'a, '_> {
    fn cursor(&self, address: u64) -> Result<Cursor<'a>, Error> {
        let mut cursor = Cursor::new(self.bytes, FORMAT);
        cursor.seek(usize::try_from(address).unwrap_or(usize::MAX))?;
        Ok(cursor)
    }

    fn spend(&mut self, cursor: &Cursor, bytes: usize) -> Result<(), Error> {
        self.budget.spend(bytes).map_err(|reason| cursor.error(reason))
    }

    /// One object more, or one node of a tree.
    fn count(&mut self, cursor: &Cursor) -> Result<(), Error> {
        self.objects += 1;
        if self.objects > MOST_OBJECTS {
            return Err(cursor.error(format!("more than {MOST_OBJECTS} objects; refused")));
        }
        self.spend(cursor, 64)
    }

    /// The address of the root group's header.
    fn superblock(&self) -> Result<u64, Error> {
        let mut cursor = self.cursor(0)?;
        if cursor.take(8)? != SIGNATURE {
            return Err(cursor.error_at(0, "no HDF5 signature"));
        }
        let version = cursor.u8()?;
        let sizes = match version {
            0 | 1 => {
                cursor.take(4)?;
                cursor.array::<2>()?
            }
            2 | 3 => cursor.array::<2>()?,
            _ => return Err(cursor.error(format!("superblock version {version}, which is not read"))),
        };
        if sizes != [8, 8] {
            return Err(cursor.error(format!("addresses of {} bytes, which are not read", sizes[0])));
        }
        let (base, end, root) = if version < 2 {
            cursor.take(if version == 0 { 9 } else { 13 })?;
            let (base, _, end, _) = (cursor.u64()?, cursor.u64()?, cursor.u64()?, cursor.u64()?);
            cursor.u64()?;
            (base, end, cursor.u64()?)
        } else {
            cursor.u8()?;
            let (base, _, end, root) = (cursor.u64()?, cursor.u64()?, cursor.u64()?, cursor.u64()?);
            (base, end, root)
        };
        if base != 0 {
            return Err(cursor.error("a file inside another file, which is not read"));
        }
        if end > self.bytes.len() as u64 {
            return Err(cursor.error(format!("{end} bytes are announced and there are {}", self.bytes.len())));
        }
        Ok(root)
    }

    /// Reads an object and all beneath it.
    fn object(&mut self, address: u64, path: &str, depth: usize) -> Result<(), Error> {
        let cursor = self.cursor(address)?;
        self.count(&cursor)?;
        if depth > DEPTH {
            return Err(cursor.error(format!("groups nest more than {DEPTH} deep; refused")));
        }
        let object = self.header(address)?;
        if let Some(data) = object.data {
            return self.array(&cursor, path, (object.shape, object.dtype, data));
        }
        for (name, value) in object.attributes {
            self.spend(&cursor, 128 + path.len())?;
            self.contents.attributes.push((path.to_owned(), name, value));
        }
        let mut members = object.links;
        if let Some((tree, heap)) = object.members {
            let names = self.heap(heap)?;
            self.tree(tree, names, 0, &mut members)?;
        }
        for (name, address) in members {
            let inner = if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") };
            if inner.len() > LONGEST_NAME {
                return Err(cursor.error(format!("a path of {} bytes", inner.len())));
            }
            self.object(address, &inner, depth + 1)?;
        }
        Ok(())
    }

    fn array(
        &mut self,
        cursor: &Cursor,
        path: &str,
        (shape, dtype, data): (Option<Vec<usize>>, Option<Type>, Data<'a>),
    ) -> Result<(), Error> {
        let refuse = |reason: &str| {
            let (offset, reason) = (cursor.at(), reason.to_owned());
            Error::Tensor { format: FORMAT, offset, tensor: path.to_owned(), reason }
        };
        self.budget.spend_tensor(path).map_err(refuse)?;
        // Texts, as of an optimiser's settings, are no weights.
        let Some(Type::Number(dtype, order)) = dtype else { return Ok(()) };
        let shape = shape.ok_or_else(|| refuse("it has no shape"))?;
        let held = match data {
            Data::Here(bytes) => bytes,
            Data::At(UNDEFINED, _) if shape.contains(&0) => &[],
            Data::At(UNDEFINED, _) => return Err(refuse("its data were never written")),
            Data::At(address, size) => self.cursor(address)?.take(usize::try_from(size).unwrap_or(usize::MAX))?,
        };
        let storage = Storage::plain(held).with_order(order);
        let tensor = Tensor::contiguous(dtype, shape, storage).map_err(|reason| refuse(&reason))?;
        self.contents.arrays.push((path.to_owned(), tensor));
        Ok(())
    }

    /// All messages of an object's header, in either of its two forms.
    fn header(&mut self, address: u64) -> Result<Object<'a>, Error> {
        let mut object = Object::default();
        let mut cursor = self.cursor(address)?;
        let is_new = cursor.rest().starts_with(b"OHDR");
        let mut flags = 0;
        let size = if is_new {
            cursor.take(5)?;
            flags = cursor.u8()?;
            // Times, and limits on attributes.
            cursor.take(16 * usize::from(flags & 0x20 != 0) + 4 * usize::from(flags & 0x10 != 0))?;
            small(&mut cursor, flags & 3)?
        } else {
            if cursor.u8()? != 1 {
                return Err(cursor.error_at(cursor.at() - 1, "no object where one is announced"));
            }
            cursor.take(7)?;
            let size = cursor.u32()? as usize;
            cursor.take(4)?;
            size
        };
        let mut blocks = vec![(cursor.at(), size)];
        let mut messages = 0;
        while let Some((start, len)) = blocks.pop() {
            let mut block = self.cursor(start as u64)?;
            let end = start + block.take(len)?.len();
            block.seek(start)?;
            // Kind, size and flags of a message, and where it begins.
            while block.at() + if is_new { 4 } else { 8 } <= end {
                let (kind, size, shared) = if is_new {
                    let (kind, size, flag) = (u16::from(block.u8()?), block.u16()?, block.u8()?);
                    block.take(2 * usize::from(flags & 4 != 0))?;
                    (kind, size, flag & 2 != 0)
                } else {
                    let (kind, size, flag) = (block.u16()?, block.u16()?, block.u8()?);
                    block.take(3)?;
                    (kind, size, flag & 2 != 0)
                };
                messages += 1;
                if messages > MOST_MESSAGES || block.at() + usize::from(size) > end {
                    return Err(block.error("a message that leaves its object"));
                }
                self.spend(&block, 16)?;
                let mut message = block.clone();
                block.take(usize::from(size))?;
                if kind == 0x10 {
                    let (at, len) = (message.u64()?, message.u64()?);
                    let (at, len) =
                        (usize::try_from(at).unwrap_or(usize::MAX), usize::try_from(len).unwrap_or(usize::MAX));
                    // A block of the new form has a signature and a checksum.
                    blocks.push(if is_new { (at.saturating_add(4), len.saturating_sub(8)) } else { (at, len) });
                } else {
                    self.message(kind, shared, message, &mut object)?;
                }
            }
        }
        Ok(object)
    }

    fn message(&mut self, kind: u16, shared: bool, mut m: Cursor<'a>, object: &mut Object<'a>) -> Result<(), Error> {
        if shared && matches!(kind, 1 | 3 | 8) {
            return Err(m.error("a type or shape that is kept elsewhere, which is not read"));
        }
        match kind {
            1 => object.shape = Some(shape(&mut m)?),
            2 => {
                m.u8()?;
                let flags = m.u8()?;
                m.take(8 * usize::from(flags & 1 != 0))?;
                if m.u64()? != UNDEFINED {
                    return Err(
                        m.error("a group of the newest form, which is not read; h5repack --low=0 --high=0 changes it")
                    );
                }
            }
            3 => object.dtype = Some(dtype(&mut m)?),
            6 => object.links.extend(link(&mut m)?),
            7 => return Err(m.error("data in another file; refused")),
            8 => object.data = Some(layout(&mut m)?),
            0xc => {
                let attribute = self.attribute(&mut m)?;
                object.attributes.extend(attribute);
            }
            0x11 => object.members = Some((m.u64()?, m.u64()?)),
            _ => {}
        }
        Ok(())
    }

    /// An attribute's name, and its value where that is one text.
    fn attribute(&self, m: &mut Cursor<'a>) -> Result<Option<Attribute<'a>>, Error> {
        let version = m.u8()?;
        let flags = m.u8()?;
        let sizes = [m.u16()?, m.u16()?, m.u16()?].map(usize::from);
        if version == 3 {
            m.u8()?;
        }
        let padded = |size: usize| if version == 1 { size.next_multiple_of(8) } else { size };
        let [name, mut kind, mut space] = {
            let mut part = |size: usize| {
                let start = m.clone();
                m.take(padded(size)).map(|_| start)
            };
            [part(sizes[0])?, part(sizes[1])?, part(sizes[2])?]
        };
        let name = text(name.rest().get(..sizes[0]).unwrap_or_default());
        let Ok(name) = std::str::from_utf8(name) else { return Ok(None) };
        // Types that are kept elsewhere are not looked up.
        if version > 1 && flags & 3 != 0 {
            return Ok(Some((name, None)));
        }
        let one = shape(&mut space)?.iter().all(|&size| size == 1);
        let value = match dtype(&mut kind)? {
            Type::Text(size) if one => Some(text(m.take(size)?)),
            Type::LongText if one => Some(self.long_text(m)?),
            _ => None,
        };
        Ok(Some((name, value)))
    }

    /// A text in the global heap: its length, the collection's address and its number there.
    fn long_text(&self, m: &mut Cursor<'a>) -> Result<&'a [u8], Error> {
        let (len, address, number) = (m.u32()? as usize, m.u64()?, m.u32()?);
        if len == 0 {
            return Ok(&[]);
        }
        let mut heap = self.cursor(address)?;
        if heap.take(4)? != b"GCOL" {
            return Err(heap.error_at(heap.at() - 4, "no heap where one is announced"));
        }
        heap.take(4)?;
        let size = usize::try_from(heap.u64()?).unwrap_or(usize::MAX);
        let end = heap.at().saturating_add(size).min(self.bytes.len());
        while heap.at() + 16 <= end {
            let index = heap.u16()?;
            heap.take(6)?;
            let size = usize::try_from(heap.u64()?).unwrap_or(usize::MAX);
            if index == 0 {
                break;
            }
            let content = heap.take(size)?;
            if u32::from(index) == number {
                return content.get(..len).ok_or_else(|| heap.error("a text that leaves its heap"));
            }
            heap.take(size.next_multiple_of(8) - size)?;
        }
        Err(heap.error(format!("no text of number {number} in its heap")))
    }

    /// The names of a group's members.
    fn heap(&self, address: u64) -> Result<&'a [u8], Error> {
        let mut heap = self.cursor(address)?;
        if heap.take(4)? != b"HEAP" {
            return Err(heap.error_at(heap.at() - 4, "no heap of names where one is announced"));
        }
        heap.take(4)?;
        let size = usize::try_from(heap.u64()?).unwrap_or(usize::MAX);
        heap.u64()?;
        let address = heap.u64()?;
        self.cursor(address)?.take(size)
    }

    /// The members in a tree: nodes of level 0 hold lists of them, others hold nodes.
    fn tree(
        &mut self,
        address: u64,
        names: &'a [u8],
        depth: usize,
        members: &mut Vec<(&'a str, u64)>,
    ) -> Result<(), Error> {
        let mut node = self.cursor(address)?;
        self.count(&node)?;
        if node.rest().starts_with(b"SNOD") {
            node.take(6)?;
            for _ in 0..node.u16()? {
                let (offset, object) = (node.u64()?, node.u64()?);
                let kind = node.u32()?;
                node.take(20)?;
                self.count(&node)?;
                let name = usize::try_from(offset).ok().and_then(|offset| names.get(offset..)).map(text);
                let name =
                    name.filter(|name| name.len() <= LONGEST_NAME).and_then(|name| std::str::from_utf8(name).ok());
                let name = name.ok_or_else(|| node.error("a name that is no text, or that leaves its heap"))?;
                // A soft link is another name for what is in the file anyway.
                if kind != 2 {
                    members.push((name, object));
                }
            }
            return Ok(());
        }
        if node.take(4)? != b"TREE" || node.u8()? != 0 || depth > 8 {
            return Err(node.error("no list of members where one is announced"));
        }
        node.u8()?;
        let count = node.u16()?;
        node.take(16)?;
        for _ in 0..count {
            node.u64()?;
            let child = node.u64()?;
            self.tree(child, names, depth + 1, members)?;
        }
        Ok(())
    }
}
