/** Work of the server, watched while it is done, as server-sent events. */

import { Problem, ask, lost, reading } from "./http.js";

/** The verdict; `on.plan` and `on.sample` are told what comes before it. Throws a Problem. */
export const judge = (request, on, signal) => watch("v1/rewards", "verdict", request, on, signal);

/** The lineage of an answer; `on.draft`, `on.round`, `on.second_opinion` are told before. Throws a Problem. */
export const improve = (request, on, signal) => watch("v1/improve", "improved", request, on, signal);

async function watch(path, last, request, on, signal) {
  const body = JSON.stringify({ ...request, stream: true });
  const response = await ask(path, { method: "POST", body, signal, accept: "text/event-stream" });
  for await (const { event, data } of events(response.body)) {
    const value = JSON.parse(data);
    if (event === last) return value;
    if (event === "error") throw new Problem(value);
    on[event]?.(value);
  }
  throw lost();
}

/** The events of a stream of bytes, as {event, data} (WHATWG HTML, 9.2.6, without ids and retries). */
export async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await reading(reader.read());
      if (done) return;
      const blocks = (rest + value).replaceAll("\r\n", "\n").split("\n\n");
      rest = blocks.pop();
      for (const block of blocks) {
        const found = parsed(block);
        if (found) yield found;
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

function parsed(block) {
  let event = "message";
  const data = [];
  for (const line of block.split("\n")) {
    const [, field, value] = /^([^:]*):? ?(.*)$/s.exec(line);
    if (field === "event") event = value;
    if (field === "data") data.push(value);
  }
  return data.length ? { event, data: data.join("\n") } : null;
}
