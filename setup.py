from pathlib import Path

from setuptools import find_packages, setup

setup(
    name="datasette-image-search",
    version="0.1",
    description="Search a folder of photos by words and by pictures, in Datasette and SQL",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    classifiers=[
        "Framework :: Datasette",
        "Intended Audience :: End Users/Desktop",
        "Topic :: Database",
        "Topic :: Multimedia :: Graphics :: Viewers",
    ],
    python_requires=">=3.10",
    packages=find_packages(include=["datasette_image_search", "datasette_image_search.*"]),
    package_data={
        "datasette_image_search": ["templates/*.html", "static/*", "embedders/*.npz"],
    },
    install_requires=[
        "datasette>=0.65",
        "sqlite-utils>=4.0",
        "faiss-cpu>=1.12",
        "torch",
        "open-clip-torch>=3.0",
        "timm>=1.0.10",
        "huggingface-hub",
        "pillow>=12",
        "numpy>=1.26",
        "click>=8.1",
        "pluggy>=1.2",
        "tabulate",
    ],
    extras_require={
        "test": [
            "axe-playwright-python",
            "cogapp",
            "hypothesis",
            "pillow-heif",
            "playwright",
            "pyarrow",
            "pytest",
            "pytest-asyncio",
            "pytest-xdist",
            "rawpy",
            "ruff",
            "transformers",
            "umap-learn",
        ],
        "heic": ["pillow-heif"],
        "raw": ["rawpy"],
        "parquet": ["pyarrow"],
        "transformers": ["transformers"],
        "umap": ["umap-learn"],
    },
    entry_points={
        "datasette": ["image_search = datasette_image_search"],
        "sqlite_utils": ["image_search = datasette_image_search.cli"],
    },
)
