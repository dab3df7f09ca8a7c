# `make demo` and `make test` do all their own set-up, from a bare clone.
.PHONY: demo test lint types oldest wheel-suite docs bench bench-full clean

demo: .venv/.demo
	.venv/bin/lightning-sagemaker simulate --hosts 2 --processes-per-host 2 --distribution torch_distributed \
	    examples/digits/train.py -- --epochs 5

test: .venv/.dev
	.venv/bin/python -m pytest -n 3 --dist loadgroup
	PYTHONPATH=. .venv/bench/bin/python -m pytest tests/benchmarks
	.venv/bin/python scripts/launch_table.py --check
	.venv/bin/python scripts/changes_table.py --check
	.venv/bin/python scripts/variables_table.py --check

lint: .venv/.dev
	.venv/bin/ruff check
	.venv/bin/ruff format --check

types: .venv/.dev
	.venv/bin/mypy
	.venv/bin/pyright --pythonpath .venv/bin/python

oldest: .venv/.dev
	.venv/bin/nox -R -s oldest

wheel-suite:
	sh scripts/wheel_suite.sh

bench: .venv/.dev
	.venv/bench/bin/python -m benchmarks run --python .venv/bin/python

bench-full: .venv/.dev
	.venv/bench/bin/python -m benchmarks run --python .venv/bin/python --full

docs: .venv/.docs
	.venv/docs/bin/python -m sphinx --fail-on-warning --keep-going --nitpicky --fresh-env --quiet docs build/docs

.venv/.demo .venv/.dev .venv/.docs: pyproject.toml constraints.txt scripts/setup.sh
	sh scripts/setup.sh $(patsubst .%,%,$(notdir $@))

clean:
	rm -rf .venv .nox build dist
