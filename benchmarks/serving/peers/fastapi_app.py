"""FastAPI, Pillow and ONNX Runtime, one image a request: what most people write first.

    python -m benchmarks.serving.peers.fastapi_app MODEL --port 8001 [--handler async|def] [--our-session]

`async` does the work on the event loop, as tutorials show it; `def` leaves it to FastAPI's thread pool.
"""

import argparse
from pathlib import Path

import uvicorn
from fastapi import FastAPI, UploadFile

from benchmarks.serving.peers.model import PeerModel


def make_app(model: PeerModel, handler: str) -> FastAPI:
    """The service."""
    app = FastAPI()

    def answer(data: bytes) -> dict[str, str]:
        return {"code": model.codes(model.prepare(data)[None])[0]}

    if handler == "async":

        @app.post("/encode")
        async def encode(image: UploadFile) -> dict[str, str]:
            return answer(await image.read())

    else:

        @app.post("/encode")
        def encode_in_thread(image: UploadFile) -> dict[str, str]:
            return answer(image.file.read())

    return app


def main() -> None:
    """Serve until told to stop."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--handler", choices=("async", "def"), default="async")
    parser.add_argument("--our-session", action="store_true")
    options = parser.parse_args()
    model = PeerModel(options.model, with_our_session=options.our_session)
    uvicorn.run(make_app(model, options.handler), port=options.port, log_level="warning", access_log=False)


if __name__ == "__main__":
    main()
