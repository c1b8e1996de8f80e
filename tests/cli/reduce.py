# SPDX-License-Identifier: Apache-2.0
"""`onehop reduce`: sums against sums made here, files it refuses, outputs that cannot be written."""

import os
import random
import resource
import struct
import subprocess

from arguments import transcript
from command import ONEHOP, Case, environment, onehop

# descr: (letter of struct, smallest and largest element that is used)
TYPES = {"<f4": ("f", -50, 50), "<f2": ("e", -50, 50), "<f8": ("d", -50, 50), "|i1": ("b", -128, 127),
         "|u1": ("B", 0, 255), "<i4": ("i", -2**31, 2**31 - 1), "<u4": ("I", 0, 2**32 - 1),
         "<i8": ("q", -2**63, 2**63 - 1), "<u8": ("Q", 0, 2**64 - 1)}


def header(descr="<f4", shape=(3,), fortran=False, version=1, text=None):
    """As NumPy writes it, unless `text` is given."""
    if text is None:
        dims = "".join(f"{n}, " for n in shape[:-1]) + (f"{shape[-1]}" if shape else "") + ("," * (len(shape) == 1))
        text = f"{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': ({dims}), }}"
    start = 10 if version == 1 else 12
    text = text.encode()
    text += b" " * (-(start + len(text) + 1) % 64) + b"\n"
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H" if version == 1 else "<I", len(text)) + text


def pack(descr, values):
    return struct.pack(f"<{len(values)}{TYPES[descr][0]}", *values)


def npy(descr, shape, values, **more):
    return header(descr, shape, **more) + pack(descr, values)


def wrap(descr, value):
    """An integer as the type holds it."""
    letter = TYPES[descr][0]
    if letter in "fed":
        return value
    bits = 8 * struct.calcsize("<" + letter)
    value %= 1 << bits
    return value - (1 << bits) if letter in "biq" and value >> (bits - 1) else value


def product(values):
    result = 1
    for value in values:
        result *= value
    return result


def average(values):
    quotient = abs(sum(values)) // len(values)
    return quotient if sum(values) >= 0 else -quotient


class Sums(Case):
    def write(self, name, data):
        (self.folder / name).write_bytes(data)
        return name

    def reduce(self, *arguments, **options):
        return onehop("reduce", *arguments, cwd=self.folder, **options)

    def draw(self, descr, count):
        _, low, high = TYPES[descr]
        return [random.randint(low, high) for _ in range(count)]

    def setUp(self):
        super().setUp()
        seed = random.randrange(1 << 30)
        random.seed(seed)
        self.addTypeEqualityFunc(bytes, lambda a, b, msg: self.assertTrue(a == b, f"bytes differ, seed {seed}"))

    def check(self, descr, shape, nfiles, op="sum", combine=sum, **more):
        count = product(shape)
        inputs = [self.draw(descr, count) for _ in range(nfiles)]
        names = [self.write(f"{i}.npy", npy(descr, shape, values, **more)) for i, values in enumerate(inputs)]
        self.assert_good(self.reduce(*names, "-o", "out.npy", "--op", op))
        expected = [wrap(descr, combine(column)) for column in zip(*inputs)]
        more["version"] = 1
        self.assertEqual((self.folder / "out.npy").read_bytes(), npy(descr, shape, expected, **more))

    def test_every_type(self):
        for descr in TYPES:
            with self.subTest(descr=descr):
                self.check(descr, (7, 11), 3)

    def test_every_operation(self):
        for descr, low in (("<i4", min), ("|i1", min), ("<u8", min)):
            for op, combine in (("sum", sum), ("prod", product), ("min", low), ("max", max), ("avg", average)):
                with self.subTest(op=op, descr=descr):
                    self.check(descr, (129,), 3, op, combine)

    def test_every_shape(self):
        for shape in ((), (0,), (1,), (5,), (2, 3), (3, 0, 2), (1, 1, 1, 1), (2,) * 10, (1,) * 64):
            with self.subTest(shape=shape):
                self.check("<f4", shape, 2)

    def test_numbers_of_files(self):
        for nfiles in (1, 2, 8, 20):
            with self.subTest(nfiles=nfiles):
                self.check("<i4", (100,), nfiles)

    def test_format_2(self):
        self.check("<f8", (4, 4), 2, version=2)

    def test_fortran_order_stays(self):
        self.check("<f4", (4, 5), 2, fortran=True)

    def test_more_than_is_in_memory_at_once(self):
        """Three pieces, the last of them short."""
        count = (2 * (16 << 20) + 12) // 4
        period = self.draw("<i4", 1009)
        values = (period * (count // len(period) + 1))[:count]
        self.write("a.npy", npy("<i4", (count,), values))
        self.assert_good(self.reduce("a.npy", "a.npy", "-o", "out.npy"))
        expected = npy("<i4", (count,), [wrap("<i4", 2 * value) for value in values])
        self.assertTrue((self.folder / "out.npy").read_bytes() == expected)

    def test_headers_that_others_write(self):
        """Other order, quotes and spaces; no last comma; Python 2's long integers."""
        data = pack("<f4", [1, 2, 3, 4])
        expected = npy("<f4", (2, 2), [2, 4, 6, 8])
        for text in ("{'shape': (2, 2), 'fortran_order': False, 'descr': '<f4'}",
                     '{"descr":"<f4","fortran_order":False,"shape":(2,2)}',
                     "{ 'descr' : '<f4' , 'fortran_order' : False , 'shape' : ( 2L , 2L , ) , }"):
            with self.subTest(text=text):
                self.write("a.npy", header(text=text) + data)
                self.assert_good(self.reduce("a.npy", "a.npy", "-o", "out.npy"))
                self.assertEqual((self.folder / "out.npy").read_bytes(), expected)

    def test_the_output_may_be_an_input(self):
        self.write("a.npy", npy("<f4", (2,), [1, 2]))
        self.assert_good(self.reduce("a.npy", "a.npy", "-o", "a.npy"))
        self.assertEqual((self.folder / "a.npy").read_bytes(), npy("<f4", (2,), [2, 4]))

    def test_the_output_keeps_its_place_and_mode(self):
        """Through a link, the file that it names is replaced; a new file has the mode of the umask."""
        self.write("a.npy", npy("<f4", (2,), [1, 2]))
        (self.folder / "real.npy").touch()
        (self.folder / "real.npy").chmod(0o640)
        (self.folder / "link.npy").symlink_to("real.npy")
        self.assert_good(self.reduce("a.npy", "-o", "link.npy"))
        self.assertTrue((self.folder / "link.npy").is_symlink())
        self.assertEqual((self.folder / "real.npy").read_bytes(), npy("<f4", (2,), [1, 2]))
        self.assertEqual((self.folder / "real.npy").stat().st_mode & 0o777, 0o640)
        self.assert_good(self.reduce("a.npy", "-o", "new.npy", umask=0o027))
        self.assertEqual((self.folder / "new.npy").stat().st_mode & 0o777, 0o640)

    def test_through_a_pipe(self):
        self.write("a.npy", npy("<f4", (2,), [1, 2]))
        done = subprocess.run([ONEHOP, "reduce", "a.npy", "-o", "/dev/stdout"], capture_output=True, timeout=60,
                              cwd=self.folder, env=environment(), check=False)
        self.assertEqual((done.stdout, done.stderr, done.returncode), (npy("<f4", (2,), [1, 2]), b"", 0))

    # ---- what is refused ----

    def expect_refusal(self, data, why, name="bad.npy"):
        self.write(name, data)
        with self.subTest(why=why):
            before = sorted(self.folder.iterdir())
            self.assert_fails(self.reduce(name, "-o", "out.npy"), f"onehop reduce: {name} {why}\n")
            self.assertEqual(sorted(self.folder.iterdir()), before)

    def test_golden_refusals(self):
        files = {"a.npy": npy("<f4", (2, 3), range(6)), "turned.npy": npy("<f4", (3, 2), range(6)),
                 "double.npy": npy("<f8", (2, 3), range(6)), "flat.npy": npy("<f4", (6,), range(6)),
                 "fortran.npy": npy("<f4", (2, 3), range(6), fortran=True), "scalar.npy": npy("<f4", (), [0]),
                 "big.npy": header(">f4", (2, 3)) + bytes(24), "bool.npy": header("|b1", (6,)) + bytes(6),
                 "bfloat.npy": header("|V2", (6,)) + bytes(12), "text.txt": b"not an array\n", "empty.npy": b""}
        for name, data in files.items():
            self.write(name, data)
        (self.folder / "folder.npy").mkdir()
        os.mkfifo(self.folder / "pipe.npy")
        cases = list(transcript("reduce_errors.txt"))
        self.assertGreater(len(cases), 12)
        before = sorted(self.folder.iterdir())
        for arguments, said, status in cases:
            with self.subTest(arguments=arguments):
                done = onehop(*arguments, cwd=self.folder)
                self.assert_fails(done, said, status)
                self.assertEqual(sorted(self.folder.iterdir()), before)

    def test_bad_headers(self):
        types = "<f4, <f2, <f8, |i1, |u1, <i4, <u4, <i8 or <u8"
        good = "{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }"
        key = "descr, fortran_order or shape, each once"

        def unexpected(found, expected):
            return f'has "{found}" in its header where {expected} was expected'

        for text, why in (
            (good.replace("<f4", "<c8"), f"has the type <c8: expected {types}"),
            (good.replace("'<f4'", "[('x', '<f4')]"), f"holds structures: expected the type {types}"),
            (good.replace("False", "Maybe"), unexpected("Maybe, 'shape': (3,", "True or False")),
            (good.replace("(3,)", "(3)"), unexpected("), }", "a comma")),
            (good.replace("(3,)", "[3]"), unexpected("[3], }", "a shape")),
            (good.replace("(3,)", "(-3,)"), unexpected("-3,), }", "a dimension")),
            (good.replace("3", "9" * 30), f"has a dimension beyond {2**64 - 1}"),
            (good.replace("(3,)", f"({2**62}, 8)"), f"has more than {(2**63 - 1) // 4} elements"),
            (good.replace("(3,)", "(" + "1, " * 65 + ")"), "has more than 64 dimensions"),
            (good.replace("'shape'", "'form'"), unexpected("'form': (3,), }", key)),
            (good.replace("'fortran_order': False", "'descr': '<f4'"), unexpected("'descr': '<f4', 'sh", key)),
            (good.replace("'shape': (3,), ", ""), "has no shape in its header"),
            ("{}", "has no descr in its header"),
            (good[:-3], "has a header that ends where a comma was expected"),
            ("[" + good + "]", unexpected("[{'descr': '<f4', '", "a dictionary")),
            (good + "import os", unexpected("import os", "the end")),
        ):
            self.expect_refusal(header(text=text) + bytes(12), why)

    def test_bad_preambles(self):
        good = npy("<f4", (3,), [1, 2, 3])
        self.expect_refusal(b"\x93NUMPX" + good[6:], "is no .npy file")
        self.expect_refusal(good[:6] + b"\3\0" + good[8:], "has the .npy format 3.0: expected 1.0 or 2.0")
        self.expect_refusal(good[:6] + b"\1\1" + good[8:], "has the .npy format 1.1: expected 1.0 or 2.0")
        self.expect_refusal(b"\x93NUMPY\2\0\xff\xff\xff\xff" + bytes(100),
                            "has a header of 4294967295 bytes: expected at most 65524")

    def test_every_truncation_is_refused(self):
        for version in (1, 2):
            good = npy("<f4", (3,), [1, 2, 3], version=version)
            for length in range(len(good)):
                self.write("bad.npy", good[:length])
                done = self.reduce("bad.npy", "-o", "out.npy")
                self.assertEqual(done.returncode, 1, length)
                self.assertRegex(done.stderr, r"^onehop reduce: bad.npy (is|ends|has) .*\n$")

    def test_too_long_is_refused(self):
        self.expect_refusal(npy("<f4", (3,), [1, 2, 3]) + b"\0", "has 13 bytes of data: expected 12, 3 elements of <f4")

    def test_damaged_headers_do_no_harm(self):
        """Whatever bytes are changed: the sum, or one line."""
        good = npy("<f4", (2, 2), [1, 2, 3, 4])
        for _ in range(300):
            data = bytearray(good)
            for _ in range(random.randint(1, 4)):
                data[random.randrange(128)] = random.choice(b"'\"(){}[],:L0123456789<>|fiu \n\0\xff")
            self.write("bad.npy", bytes(data))
            done = self.reduce("bad.npy", "-o", "out.npy")
            self.assertIn((done.returncode, done.stderr.count("\n")), ((0, 0), (1, 1)), (data, done.stderr))

    # ---- what cannot be written ----

    def test_disk_full(self):
        self.write("a.npy", npy("<f4", (3,), [1, 2, 3]))
        done = self.reduce("a.npy", "-o", "/dev/full")
        self.assert_fails(done, "onehop reduce: rank 0: cannot write /dev/full: No space left on device\n")

    LIMIT = 4 << 20  # for files; enough for a small workspace

    def reduce_limited(self, *arguments):
        limit = (self.LIMIT, self.LIMIT)
        return self.reduce(*arguments, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit),
                           env=environment(ONEHOP_WORKSPACE_BYTES=65536))

    def test_no_partial_file_is_left(self):
        """The file may not grow beyond a limit, which it reaches with the first piece, or with the second."""
        for count in (self.LIMIT // 4, 6 * self.LIMIT // 4):
            with self.subTest(count=count):
                self.write("a.npy", header("<f4", (count,)) + bytes(4 * count))
                done = self.reduce_limited("a.npy", "a.npy", "-o", "out.npy")
                self.assert_fails(done, "onehop reduce: rank 0: cannot write out.npy: File too large\n")
                self.assertEqual([path.name for path in self.folder.iterdir()], ["a.npy"])

    def test_an_old_output_survives_failure(self):
        self.write("a.npy", header("<f4", (self.LIMIT // 4,)) + bytes(self.LIMIT))
        self.write("out.npy", b"precious")
        self.assertEqual(self.reduce_limited("a.npy", "-o", "out.npy").returncode, 1)
        self.assertEqual((self.folder / "out.npy").read_bytes(), b"precious")
        self.assertEqual(len(list(self.folder.iterdir())), 2)
