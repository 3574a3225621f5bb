// Send requests to the server, a few at a time. Requests are repeated while the server is busy, and carry an API key if
// the server requires one.

const AT_ONCE = 2;  // maximum number of concurrent requests
const TRIES = 5;    // maximum number of attempts while the server is busy

const $ = (id) => document.getElementById(id);

export async function ask(path, options = {}) {
  for (let tries = 1; ; tries++) {
    const key = sessionStorage.getItem("key");
    let answer;
    try {
      answer = await fetch(path, { ...options, headers: { ...options.headers, ...(key && { "X-API-Key": key }) } });
    } catch (error) {
      if (options.signal?.aborted) throw error;
      throw new Error("The server does not respond. Is polytag serve still running?");
    }
    if (answer.status === 401) {
      await newKey(key);
    } else if (answer.status === 503 && tries < TRIES) {
      const seconds = Math.min(30, Number(answer.headers.get("Retry-After")) || 1);
      await new Promise((resolve) => setTimeout(resolve, 1000 * seconds));
    } else {
      const content = await answer.json().catch(() => ({}));
      options.signal?.throwIfAborted();
      if (!answer.ok) throw refusal(content, answer.status);
      return content;
    }
  }
}

export const refusal = (problem, status = problem.status) =>
  Object.assign(new Error(problem.detail || `The server answered with status ${status}.`), { status });

let asking = null;
function newKey(refused) {
  if (sessionStorage.getItem("key") !== refused) return null;  // The user has already entered a new key for another request.
  asking ??= new Promise((resolve, reject) => {
    $("ask-why").textContent = refused === null ? "The key is stored until you close this tab." : "That key was not accepted.";
    $("key").value = $("ask").returnValue = "";
    $("ask").showModal();
    $("ask").onclose = () => {
      asking = null;
      if ($("ask").returnValue === "given") resolve();
      else reject(new Error("This server needs an API key."));
    };
  });
  return asking;
}

const waiting = [];
let running = 0;
export function inTurn(work, first) {
  return new Promise((resolve, reject) => {
    waiting[first ? "unshift" : "push"](() => work().then(resolve, reject));
    takeTurns();
  });
}
function takeTurns() {
  while (running < AT_ONCE && waiting.length) {
    running++;
    waiting.shift()().finally(() => {
      running--;
      takeTurns();
    });
  }
}
