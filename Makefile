# Each target sets .venv up as far as it needs it, once; later runs use no network.
# `make` alone lists the targets.

PYTHON ?= python3

python = @exec .venv/bin/python -m
nextword = $(python) nextword.lm
# $(call option,name,VARIABLE): --name 'value', or nothing where the variable is not set.
option = $(if $(value $(2)),--$(1) '$(subst ','\'',$(value $(2)))')
# Not taken from the environment, where some shells keep the machine's own name.
host = $(if $(filter command,$(origin HOST)),$(call option,host,HOST))

.PHONY: help serve test lint train compare regression sentiment recall predict evaluate bundle picture bench-serve bench-train torture replicas constraints audit clean FORCE
.NOTPARALLEL:
MAKEFLAGS += --no-builtin-rules --no-print-directory

help:
	@echo "make serve        serve next words over HTTP: PORT=8000 HOST=127.0.0.1 BUNDLE=folder WORKERS=n"
	@echo "make test         run the tests, or some of them: ARGS='-k client'"
	@echo "make lint         check style and types: ruff and mypy"
	@echo "make train        train a model: CORPUS=name-or-path RECIPE=file OUT=runs/name NPROC=processes"
	@echo "make compare      train RNN, GRU, LSTM and a Transformer alike: CORPUS=name-or-path OUT=runs/name ARGS=--quick"
	@echo "make regression   train RNN, GRU and LSTM on a series of numbers: DATA=file.csv OUT=runs/name"
	@echo "make sentiment    train an LSTM that judges film reviews: DATA=name-or-folder OUT=runs/name; then TEXT='I loved it'"
	@echo "make recall       how far RNN, GRU, LSTM and a Transformer carry a symbol: OUT=runs/name"
	@echo "make predict      next words of TEXT='I went to the': BUNDLE=folder"
	@echo "make evaluate     perplexity and accuracy: BUNDLE=folder CORPUS=name-or-path"
	@echo "make bundle       the English model again: CORPORA=folder with its corpora RECIPE=english-cpu on processors"
	@echo "make bench-serve  measure the service beside others: BUNDLE=folder ARGS=--quick"
	@echo "make bench-train  measure training beside a straightforward loop: CORPUS=name-or-path ARGS=--quick"
	@echo "make torture      break the service on purpose, and say what comes of it: ARGS='kill-worker stop'"
	@echo "make replicas     three replicas behind nginx, one killed and all replaced under load: ARGS='--seconds 30'"
	@echo "make picture      the README's picture of the page, made anew"
	@echo "make constraints  pin the dependencies of pyproject.toml in constraints.txt"
	@echo "make audit        ask a public database whether the pinned versions have known faults (needs a network)"
	@echo "make clean        remove .venv and caches; runs/ stays"
	@echo
	@echo "ARGS='…' is handed to the program as it is; ARGS=--help lists its options."
	@echo "PYTHON=python3.12 chooses the Python (3.10 to 3.13) that .venv is made with."
	@echo "TORCH_INDEX=address takes torch from another package index. Without a GPU, give"
	@echo "  the address for CPU on PyTorch's installation page: it spares gigabytes of CUDA."
	@echo "  A torch of the right version that .venv has already is kept, whichever its build."

serve: .venv/serve.stamp
	$(nextword) serve $(host) $(call option,port,PORT) $(call option,bundle,BUNDLE) $(call option,workers,WORKERS) $(ARGS)

# All tests run in two processes. Each trains a tiny model of its own, so a few tests alone are quicker in one process.
test: .venv/test.stamp
	$(python) pytest $(or $(ARGS),-n 2 --dist worksteal)

# mypy finds the packages by the folder's links: the folders here are not named nextword.
lint: .venv/lint.stamp
	@mkdir -p .venv/typing/nextword
	@for package in lm serve training; do ln -sfn ../../../$$package .venv/typing/nextword/$$package; done
	@.venv/bin/python -m ruff check $(ARGS); ruff=$$?; \
	cd .venv/typing && MYPYPATH=. ../bin/python -m mypy --config-file ../../pyproject.toml \
		-p nextword.lm -p nextword.serve -p nextword.training && exit $$ruff

train: .venv/train.stamp
	$(nextword) train $(call option,corpus,CORPUS) $(call option,recipe,RECIPE) $(call option,out,OUT) $(call option,processes,NPROC) $(ARGS)

compare: .venv/train.stamp
	$(nextword) compare $(call option,corpus,CORPUS) $(call option,out,OUT) $(ARGS)

regression: .venv/train.stamp
	$(nextword) regression $(call option,data,DATA) $(call option,out,OUT) $(ARGS)

sentiment: .venv/train.stamp
	$(nextword) sentiment $(call option,data,DATA) $(call option,out,OUT) $(ARGS) $(if $(value TEXT),--text='$(subst ','\'',$(value TEXT))')

recall: .venv/train.stamp
	$(nextword) recall $(call option,out,OUT) $(ARGS)

predict: .venv/serve.stamp
	$(nextword) predict $(call option,bundle,BUNDLE) $(ARGS) $(if $(value TEXT),-- '$(subst ','\'',$(value TEXT))')

evaluate: .venv/train.stamp
	$(nextword) evaluate $(call option,bundle,BUNDLE) $(call option,corpus,CORPUS) $(ARGS)

# A training that was stopped goes on with the same command. The model of version 0.1.0, with which english-cpu begins, comes
# from the history.
english = @chat-english*1.3,@talk-english,@tech-talk-english*0.5,@notes-english*1.5,@imdb*0.7,@english-novels,@tatoeba-english*4
english-cpu = @chat-english*1.4,@talk-english*1.1,@tech-talk-english*0.4,@notes-english*1.4,@imdb*0.3,@english-novels*0.5,@tatoeba-english*1.5
bundle: RECIPE = english
bundle: .venv/train.stamp
	$(if $($(RECIPE)),,$(error make bundle knows RECIPE=english and RECIPE=english-cpu))
	$(if $(value CORPORA),,$(error make bundle needs CORPORA=folder, with these corpora in hub layout: $(subst @,,$($(RECIPE)))))
	@test $(RECIPE) = english -o -d runs/english-0.1 || { mkdir -p runs/english-0.1 && \
		git archive d8febfc:lm/bundles/english | tar -x -C runs/english-0.1; }
	@.venv/bin/python -m nextword.lm train --recipe $(RECIPE) --out runs/$(RECIPE) $(ARGS) \
		--corpus '$(subst @,$(subst ','\'',$(value CORPORA))/,$($(RECIPE)))'
	$(nextword) publish runs/$(RECIPE)/bundle lm/bundles/english

# The README's picture of the page.
picture: .venv/test.stamp
	$(python) tests.picture serve/page.png

bench-serve: .venv/bench.stamp
	$(python) tests.benchmarks.serving $(call option,bundle,BUNDLE) $(ARGS)

bench-train: .venv/train.stamp
	$(python) tests.benchmarks.training $(call option,corpus,CORPUS) $(ARGS)

replicas: .venv/bench.stamp
	$(python) tests.benchmarks.serving.replicas $(call option,bundle,BUNDLE) $(ARGS)

torture: .venv/test.stamp
	$(python) tests.torture $(call option,bundle,BUNDLE) $(ARGS)

constraints: .venv/test.stamp
	@$(pip) --quiet uv
	@cp constraints.txt .venv/constraints.txt
	@.venv/bin/uv pip compile --quiet --universal --python-version 3.10 --all-extras --no-header --no-annotate \
		--no-emit-package nextword $(ARGS) --output-file .venv/constraints.txt pyproject.toml
	@{ grep '^#' constraints.txt; grep -Ev '^(cuda|nvidia|triton)' .venv/constraints.txt; } >.venv/constraints.new
	@mv .venv/constraints.new constraints.txt

audit: .venv/pyvenv.cfg
	@test -x .venv/audit/bin/pip-audit || { .venv/bin/python -m venv .venv/audit \
		&& .venv/audit/bin/pip --disable-pip-version-check install --quiet pip-audit; }
	@exec .venv/audit/bin/pip-audit --requirement constraints.txt --no-deps --disable-pip --strict --progress-spinner off $(ARGS)

clean:
	rm -rf .venv build dist *.egg-info .pytest_cache .ruff_cache
	find lm serve training tests -name __pycache__ -prune -exec rm -rf {} +

# ---- The virtual environment: one stamp for each extra of pyproject.toml.

accepted = 3.10 3.11 3.12 3.13
found = $(shell $(PYTHON) -c 'import platform; print(platform.python_version())' 2>/dev/null)
# A .venv of any accepted Python will do, unless the command line asks for one.
wanted := $(if $(filter command,$(origin PYTHON)),$(basename $(found)),$(accepted))
log = .venv/installing.log
pip = .venv/bin/python -m pip --disable-pip-version-check install -c constraints.txt
# A log that says "Installing" and still has this name is of an installation cut off half-way.
usable = .venv/bin/python -c 'import sys; sys.exit("%d.%d" % sys.version_info[:2] not in sys.argv)' $(wanted) 2>/dev/null \
	&& ! grep -qs '^Installing' $(log)
lock = exec 9<Makefile; flock 9 2>/dev/null || true

refuse_python = $(error $(PYTHON) is $(if $(found),Python $(found),not found), and Python 3.10 to 3.13 is needed: name another one, as in "make $(MAKECMDGOALS) PYTHON=python3.12")
refuse_venv = $(error $(PYTHON) lacks the venv module: install it, on Debian and Ubuntu with "apt install python3-venv")

.venv/pyvenv.cfg: $(shell $(usable) || echo FORCE)
	$(if $(filter $(accepted),$(basename $(found))),,$(refuse_python))
	$(if $(shell $(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || echo lacks),$(refuse_venv))
	@$(lock); if $(usable); then exit; fi; \
	echo "Making .venv with Python $(found)"; \
	rm -rf .venv && mkdir .venv && echo Installing >$(log) && $(PYTHON) -m venv .venv && rm $(log)

# setuptools comes first, so that the editable install needs no build environment from the network.
.venv/%.stamp: .venv/pyvenv.cfg pyproject.toml constraints.txt
	@echo "Setting up .venv for $(MAKECMDGOALS) (once; takes minutes, follow it in $(log))"
	@$(lock); { \
	$(if $(TORCH_INDEX),$(pip) --no-deps --index-url '$(TORCH_INDEX)' torch >$(log) 2>&1 &&) \
	$(pip) setuptools >$(log) 2>&1 && \
	$(pip) --no-build-isolation -e '.[$*]' >$(log) 2>&1 && \
	mv $(log) .venv/installed.log && touch $(if $(filter test lint,$*),.venv/serve.stamp .venv/train.stamp) $@; \
	} || { \
	if grep -q 'connection broken' $(log); then echo "The package index cannot be reached, and the first setup needs it (details: $(log))"; \
	else echo "The installation failed: $$(grep '^ERROR' $(log) | tail -n 1) (details: $(log))"; fi >&2; exit 1; }
