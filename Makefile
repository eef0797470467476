# make check      what CI runs: format, lint, layers, types, tests, and what works without torch in an environment without it
# make check-slow the tests that are marked slow, which `make check` leaves out; CI runs them every night
# make check-sanitized  the tests of the native library with the sanitizers of addresses and of undefined behaviour, and
#                 races of its threads; CI runs them every night; needs Linux and gcc
# make check-emulated   the native library for other processors and systems, under QEMU and Wine; CI runs it every night; needs
#                 Debian's qemu-user, libc6-arm64-cross, musl and wine, and skips what lacks one of them
# make check-browsers   the page, the npm packages and the polyfill in Firefox and WebKit besides Chromium; CI runs it every
#                 night; needs Debian's chromium, firefox-esr, webkit2gtk-driver and xvfb, and skips what is missing
# make core       the native library, anew where its sources have changed
# make core-install     the library for C programs, with the reader of .hpcm files, its headers, weights and pkg-config's file,
#                 into PREFIX=/usr/local; DESTDIR= for packages, LIBDIR=lib in PREFIX. Needs Python and a C compiler alone;
#                 `make core-uninstall` with the same variables removes it
# make demo       a photograph there and back, on a fresh machine: the base install, without torch
# make coverage   the tests with what they reach, branches included: slower, so it isn't part of `make check`
# make docs       the documentation site, into build/site, offline; needs Python 3.11
# make fuzz       an hour (MINUTES=60) of what reads files of strangers, eight fuzzers at once; needs Linux and gcc or clang;
#                 findings lie in build/fuzz
# make page       the web page and its module, into web/dist and for `hpcm serve`; needs Node.js 20
# make npm        the npm packages, into build/npm: hpcm-web, and one for each bundled model; needs Node.js 20
# make man        the manual page, and completions for shells, into share/
# make release    source distribution and wheels for all platforms in dist/, inspected and tried; needs Node.js 20 for the
#                 page, and a C compiler (cc) to try the source distribution
# make deb        packages for Debian 12 into build/deb; needs that system with dpkg-dev, gcc, libgdk-pixbuf-2.0-dev and
#                 libvips-dev, and Node.js 20 for the page; PACKAGES="hpcm hpcm-models" builds these alone
# make bench      the table of rate, quality and speed: make bench KODAK=folder/of/kodak
# make PYTHON=python3.12 ...   another interpreter (3.10 to 3.14); environments are .venv and .venv-base, `make clean` removes them

PYTHON ?= python3
VENV := .venv
BASE := .venv-base
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
BASE_PIP := $(BASE)/bin/python -m pip --disable-pip-version-check
READY := $(VENV)/.ready
CORE_READY := $(VENV)/.core
BASE_READY := $(BASE)/.ready
RELEASE_READY := $(VENV)/.release
VERSION := $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' src/hpcm/__init__.py)

WEB_READY := web/node_modules/.ready
NPM := $(shell command -v npm)

.DEFAULT_GOAL := check
.PHONY: venv core core-install core-uninstall demo check check-slow check-sanitized check-emulated check-web check-browsers coverage docs fuzz fuzz-python fuzz-ans fuzz-payload fuzz-model fuzz-residual fuzz-dct fuzz-file fuzz-parts page npm man release deb format bench clean

venv: $(CORE_READY)

# Installing the package in place compiles the native library; after that, only a change of its sources does.
CORE_SOURCES := core/build.py $(wildcard core/*.[ch] core/kernels/*.[ch])
$(CORE_READY): $(CORE_SOURCES) | $(READY)
	$(BIN)/python core/build.py
	touch $@

core: $(CORE_READY)

# By whatever Python there is: an environment would be built for nothing.
PREFIX ?= /usr/local
LIBDIR ?= lib
core-install:
	$(PYTHON) core/build.py --install "$(PREFIX)" --destdir "$(DESTDIR)" --libdir "$(LIBDIR)"

core-uninstall:
	$(PYTHON) core/build.py --uninstall "$(PREFIX)" --destdir "$(DESTDIR)" --libdir "$(LIBDIR)"

# torch first and alone: it is by far the largest, and nothing that comes later may choose another build of it.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) install -c constraints.txt torch
	$(PIP) install -c constraints.txt -e '.[dev,eval]'
	touch $@ $(CORE_READY)

$(BASE_READY): pyproject.toml constraints.txt $(CORE_SOURCES)
	$(PYTHON) -m venv $(BASE)
	$(BASE_PIP) install -c constraints.txt -e .
	touch $@

demo: $(BASE_READY)
	$(BASE)/bin/python examples/demo.py

$(WEB_READY): web/package.json web/package-lock.json
	cd web && npm ci --no-audit --no-fund
	touch $@

page: $(WEB_READY) $(CORE_READY)
	$(BIN)/python core/build.py --wasm
	cd web && node build.js
	rm -rf src/hpcm/serve/page
	cp -r web/dist src/hpcm/serve/page

# npm takes provenance for a package only if it names the repository: make npm REPOSITORY=https://github.com/OWNER/NAME
npm: $(WEB_READY) $(CORE_READY)
	$(BIN)/python core/build.py --wasm
	cd web && node npm/make.js --pack $(if $(REPOSITORY),--repository $(REPOSITORY))

# Without npm the tests of the browser's codec are skipped.
check-web: $(if $(NPM),page)
	$(if $(NPM),cd web && npm test,@echo "npm isn't there: the page and its codec are not tested")

check-browsers: page
	cd web && BROWSERS=all node --test --test-timeout=900000 test/browsers.test.js test/polyfill.test.js

check: $(CORE_READY) $(BASE_READY) check-web
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/mypy
	$(BIN)/pytest
	$(BASE_PIP) install -q -c constraints.txt pytest
	$(BASE)/bin/python -m pytest --noconftest tests/test_base.py tests/test_threads.py

check-slow: $(CORE_READY)
	$(BIN)/pytest -m slow

# Python isn't compiled with the sanitizers, so their runtime, which comes with gcc, is loaded before it.
SANITIZED := build/sanitized/libhpcm.so
SANITIZED_READER := build/sanitized/reader.so
RACING := src/hpcm/model/assets $(addprefix tests/golden/,nano-1.hpcm lossless.hpcm quality-90.hpcm progressive.hpcm format.hpcm)
check-sanitized: $(CORE_READY)
	mkdir -p $(dir $(SANITIZED))
	CC=gcc $(BIN)/python core/build.py --sanitize --output $(SANITIZED)
	CC=gcc $(BIN)/python core/build.py --sanitize --files $(SANITIZED_READER)
	HPCM_TEST_LIBRARY=$(SANITIZED) HPCM_TEST_READER=$(SANITIZED_READER) ASAN_OPTIONS=detect_leaks=0 \
		LD_PRELOAD=$$(gcc -print-file-name=libasan.so) $(BIN)/python -m pytest \
		tests/test_core.py tests/test_entropy.py tests/test_residual.py tests/test_dct.py tests/test_file.py tests/test_file_parts.py
	CC=gcc $(BIN)/python core/build.py --program core/test/races.c
	build/races 300
	CC=gcc $(BIN)/python core/build.py --sanitize thread --program core/test/races.c --output build/sanitized/races
	build/sanitized/races 30
	CC=gcc $(BIN)/python core/build.py --reader --program core/test/races_file.c
	build/races_file 100 $(RACING)
	CC=gcc $(BIN)/python core/build.py --sanitize thread --reader --program core/test/races_file.c --output build/sanitized/races_file
	build/sanitized/races_file 10 $(RACING)

check-emulated: $(CORE_READY)
	$(BIN)/pytest -m slow -rs tests/test_emulated.py

COVERED := src/hpcm/codec/*,src/hpcm/core/*,src/hpcm/format/*,src/hpcm/image/*,src/hpcm/model/*

coverage: $(CORE_READY)
	$(BIN)/coverage run -m pytest
	$(BIN)/coverage report --skip-covered
	$(BIN)/coverage report --include='$(COVERED)' --fail-under=92

$(RELEASE_READY): $(READY)
	$(PIP) install -q -c constraints.txt -e '.[release]'
	touch $@

man: $(RELEASE_READY)
	rm -rf share
	mkdir -p share/man/man1 share/bash-completion/completions share/zsh/site-functions share/fish/vendor_completions.d
	$(BIN)/argparse-manpage --module hpcm.cli.commands --function parser --prog hpcm --project-name hpcm \
		--version $(VERSION) --description "a learned image codec" --manual-title hpcm \
		--format single-commands-section --output share/man/man1/hpcm.1
	$(BIN)/hpcm completion bash > share/bash-completion/completions/hpcm
	$(BIN)/hpcm completion zsh > share/zsh/site-functions/_hpcm
	$(BIN)/hpcm completion fish > share/fish/vendor_completions.d/hpcm.fish

release: man page
	$(BIN)/python tools/release.py

deb: man page
	$(BIN)/python tools/deb.py $(PACKAGES)

docs: $(READY)
	$(PIP) install -q -c constraints.txt -e '.[docs]'
	$(BIN)/sphinx-build -q -W --keep-going -c docs . build/site
	cp build/site/README.html build/site/index.html

MINUTES ?= 60
FUZZ = -max_total_time=$$(( 60 * $(MINUTES) )) -rss_limit_mb=4000 -artifact_prefix=build/fuzz/
fuzz:
	$(MAKE) --jobs=8 fuzz-python fuzz-ans fuzz-payload fuzz-model fuzz-residual fuzz-dct fuzz-file fuzz-parts

fuzz-python: $(READY)
	$(PIP) install -q -c constraints.txt atheris
	mkdir -p build/fuzz/python
	$(BIN)/python tests/fuzz/fuzz.py $(FUZZ) -max_len=4096 -timeout=20 build/fuzz/python tests/fuzz/corpus

# The native library, by core/test/fuzz_*.c. Inputs are short, and comparisons say little about them.
build/fuzz/models: tests/fuzz/seeds.py tests/recorder.py | $(CORE_READY)
	mkdir -p build/fuzz
	PYTHONPATH=tests $(BIN)/python $< build/fuzz

fuzz-payload fuzz-file fuzz-parts: build/fuzz/models
fuzz-ans fuzz-payload fuzz-model fuzz-residual fuzz-dct fuzz-file fuzz-parts: fuzz-%: $(CORE_READY)
	mkdir -p build/fuzz/$*
	$(BIN)/python core/build.py --fuzz $*
	HPCM_FUZZ_MODELS=build/fuzz/models build/fuzz_$* $(FUZZ) -max_len=1024 -timeout=60 -len_control=0 build/fuzz/$* core/test/corpus/$*

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(CORE_READY)
	$(if $(KODAK),,$(error say where the pictures are: make bench KODAK=folder/of/kodak))
	$(BIN)/hpcm eval $(KODAK) --ssimulacra2 -o build/kodak

clean:
	rm -rf $(VENV) $(BASE) build dist share web/dist web/node_modules src/hpcm/serve/page .coverage htmlcov .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
