from collections.abc import Callable

from middleware.resumable.recorder import AnswerRecorder
from proxy.kernel.answer_recorder import Recorder
from proxy.kernel.asgi import Send


def test_the_recorder_of_the_plugin_keeps_the_contract() -> None:
    def need(recorder: Recorder) -> tuple[Callable[[Send], Send], Callable[[], bool]]:
        return recorder.sending, recorder.outlives

    assert Recorder in AnswerRecorder.__mro__
    assert need.__annotations__["recorder"] is Recorder
