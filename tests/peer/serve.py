"""The server of llama-cpp-python, with one default changed. Takes its arguments; `make test-server` calls it.

It penalises repetition by 1.1 unless a request says otherwise, and OpenAI's protocol has no word for that. With 1.0, no
penalty, the likeliest token is the model's, so that its texts can be compared with those written elsewhere.
"""

from llama_cpp.server import types

request = types.CreateChatCompletionRequest
request.model_fields["repeat_penalty"].default = 1.0
request.model_rebuild(force=True)

from llama_cpp.server.__main__ import main

if __name__ == "__main__":
    main()
