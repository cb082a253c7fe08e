"""The official SDKs as an agent's clients.

Standard input, on each line: {"proxy": URL or null, "token": TEXT, "prompt": TEXT, "calls": [[NAME, MODEL], ...]}. Without
a proxy every client is made as its SDK makes one from the variables of the environment. The answer is a line with a list:
of each call its name, and the text, the number of pieces and the tokens that came, or the exception's type, status and text.
"""

import json
import sys

ask = {}


def prompt():
    return [{"role": "user", "content": ask["prompt"]}]


def made(kind, path, **more):
    """A client: by its arguments, or by what the environment says."""
    if ask["proxy"] is None:
        return kind(**more)
    place = {"azure": "azure_endpoint"}.get(path, "base_url")
    return kind(api_key=ask["token"], **{place: f"{ask['proxy']}/v1/{path}"}, **more)


def openai(provider="openai"):
    from openai import OpenAI

    return made(OpenAI, provider, max_retries=0)


def azure():
    from openai import AzureOpenAI

    version = {} if ask["proxy"] is None else {"api_version": "2024-10-21"}
    return made(AzureOpenAI, "azure", max_retries=0, **version)


def anthropic():
    from anthropic import Anthropic

    return made(Anthropic, "anthropic", max_retries=0)


def google():
    from google import genai

    if ask["proxy"] is None:
        return genai.Client()
    return genai.Client(api_key=ask["token"], http_options={"base_url": ask["proxy"] + "/v1/google"})


def chat(client, model, **more):
    reply = client.chat.completions.create(model=model, messages=prompt(), **more)
    return [reply.choices[0].message.content], reply.usage.total_tokens


def chat_stream(client, model, **more):
    pieces, tokens, bare = [], None, 0
    for chunk in client.chat.completions.create(model=model, messages=prompt(), stream=True, **more):
        tokens = chunk.usage.total_tokens if chunk.usage else tokens
        bare += not chunk.choices
        pieces += [choice.delta.content for choice in chunk.choices if choice.delta.content]
    assert bare == (1 if more else 0), f"{bare} chunks without choices"
    return pieces, tokens


def responses(model):
    reply = openai().responses.create(model=model, input=ask["prompt"])
    return [reply.output_text], reply.usage.total_tokens


def responses_stream(model):
    pieces, tokens = [], None
    for event in openai().responses.create(model=model, input=ask["prompt"], stream=True):
        if event.type == "response.output_text.delta":
            pieces.append(event.delta)
        if event.type == "response.completed":
            tokens = event.response.usage.total_tokens
    return pieces, tokens


def embeddings(model):
    reply = openai().embeddings.create(model=model, input=ask["prompt"])
    return [str(reply.data[0].embedding)], reply.usage.total_tokens


def messages(model):
    reply = anthropic().messages.create(model=model, max_tokens=64, messages=prompt())
    return [reply.content[0].text], reply.usage.input_tokens + reply.usage.output_tokens


def messages_stream(model):
    with anthropic().messages.stream(model=model, max_tokens=64, messages=prompt()) as stream:
        pieces = list(stream.text_stream)
        usage = stream.get_final_message().usage
    return pieces, usage.input_tokens + usage.output_tokens


def generate(model):
    # Without a name the client is gone before its answer is here.
    client = google()
    reply = client.models.generate_content(model=model, contents=ask["prompt"])
    return [reply.text], reply.usage_metadata.total_token_count


def generate_stream(model):
    pieces, tokens, client = [], None, google()
    for chunk in client.models.generate_content_stream(model=model, contents=ask["prompt"]):
        pieces.append(chunk.text)
        tokens = chunk.usage_metadata.total_token_count if chunk.usage_metadata else tokens
    return pieces, tokens


with_usage = {"stream_options": {"include_usage": True}}
calls = {
    "chat": lambda model: chat(openai(), model),
    "chat-stream": lambda model: chat_stream(openai(), model),
    "chat-stream-usage": lambda model: chat_stream(openai(), model, **with_usage),
    "responses": responses,
    "responses-stream": responses_stream,
    "embeddings": embeddings,
    "azure": lambda model: chat(azure(), model),
    "azure-stream": lambda model: chat_stream(azure(), model),
    "messages": messages,
    "messages-stream": messages_stream,
    "generate": generate,
    "generate-stream": generate_stream,
    "litellm": lambda model: chat(openai("litellm"), model),
    "litellm-stream": lambda model: chat_stream(openai("litellm"), model),
}


def tried(name, model):
    line = {"call": name}
    try:
        pieces, line["tokens"] = calls[name](model)
        line["text"], line["pieces"] = "".join(pieces), len(pieces)
    except Exception as error:
        status = getattr(error, "status_code", None) or getattr(error, "code", None)
        line |= {"error": f"{type(error).__module__.split('.')[0]}.{type(error).__name__}", "status": status}
        line["message"] = f"{error} {getattr(error, 'body', None)} {getattr(error, 'details', None)}"
    return line


for line in sys.stdin:
    ask = json.loads(line)
    print(json.dumps([tried(name, model) for name, model in ask["calls"]]), flush=True)
