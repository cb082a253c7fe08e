"""Packs installed pure Python packages into text that code can carry: pack.py MODULE..."""
import base64, importlib.util, io, lzma, pathlib, sys, tarfile

out = io.BytesIO()
with tarfile.open(fileobj=out, mode="w") as tar:
    for name in sys.argv[1:]:
        spec = importlib.util.find_spec(name)
        root = pathlib.Path(spec.origin)
        root = root.parent if root.name == "__init__.py" else root
        files = root.rglob("*") if root.is_dir() else [root]
        for file in sorted(files):
            if file.suffix in (".py", ".pem") and "__pycache__" not in file.parts:
                tar.add(file, file.relative_to(root.parent))
sys.stdout.write(base64.b85encode(lzma.compress(out.getvalue())).decode())
