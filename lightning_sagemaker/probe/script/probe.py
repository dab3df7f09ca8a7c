"""The script of the probing job: every process that the job's launcher starts looks around and tells what it sees."""  # noqa: INP001 - sent to the job as a script, no package

from lightning_sagemaker.probe.observe import main

if __name__ == "__main__":
    main()
