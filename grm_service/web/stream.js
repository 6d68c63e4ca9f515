/** Streaming requests: judgements and improvements as server-sent events. */

import { Problem, connectionLost, network, send } from "./http.js";

/** Judges a request and returns the verdict; calls `on.plan` and `on.sample` before. Throws a Problem. */
export const judge = (request, on, signal) => stream("v1/rewards", "verdict", request, on, signal);

/** Improves an answer; calls `on.draft`, `on.round` and `on.second_opinion` before. Throws a Problem. */
export const improve = (request, on, signal) => stream("v1/improve", "improved", request, on, signal);

async function stream(path, finalEvent, request, on, signal) {
  const body = JSON.stringify({ ...request, stream: true });
  const response = await send(path, { method: "POST", body, signal, accept: "text/event-stream" });
  for await (const { event, data } of events(response.body)) {
    const value = JSON.parse(data);
    if (event === finalEvent) return value;
    if (event === "error") throw new Problem(value);
    on[event]?.(value);
  }
  throw connectionLost();
}

/** Yields the events of a byte stream as {event, data} (WHATWG HTML, 9.2.6, without ids and retries). */
export async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await network(reader.read());
      if (done) return;
      const blocks = (rest + value).replaceAll("\r\n", "\n").split("\n\n");
      rest = blocks.pop();
      for (const block of blocks) {
        const event = parseEvent(block);
        if (event) yield event;
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

function parseEvent(block) {
  let event = "message";
  const data = [];
  for (const line of block.split("\n")) {
    const [, field, value] = /^([^:]*):? ?(.*)$/s.exec(line);
    if (field === "event") event = value;
    if (field === "data") data.push(value);
  }
  return data.length ? { event, data: data.join("\n") } : null;
}
