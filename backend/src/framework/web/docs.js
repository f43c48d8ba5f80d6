/* What /docs adds to Swagger UI: each plugin is one thing that a developer notices. */

const page = document.getElementById("swagger-ui").dataset;

/** The page shows a longer answer without colours, and above MOST_SHOWN only its beginning. */
const MOST_COLOURED = 20_000;
const MOST_SHOWN = 200_000;

/** How long Execute stays in a stream. */
const STREAM_SECONDS = 3;

/** How many operations must share an error before the page describes it only once. */
const TOLD_ONCE_FROM = 3;

const operationsOf = (contract) => Object.values(contract.paths).flatMap(Object.values);

/** The introduction describes the errors that many operations share. */
const errorsToldOnce = {
    statePlugins: {
        spec: {
            wrapActions: {
                updateJsonSpec: (update) => (contract) => {
                    const operations = operationsOf(contract);
                    const errors = operations.flatMap(({ responses }) =>
                        Object.entries(responses)
                            .filter(([status]) => status >= "400")
                            .map(([status, { description }]) => `${status}: ${description}`),
                    );
                    const isShared = (error) =>
                        errors.filter((each) => each === error).length >= TOLD_ONCE_FROM;
                    for (const { responses } of operations) {
                        for (const [status, response] of Object.entries(responses)) {
                            if (isShared(`${status}: ${response.description}`)) {
                                delete responses[status];
                            } else if (status >= "400") {
                                delete response.headers;
                            }
                        }
                    }
                    const shared = [...new Set(errors.filter(isShared))].sort();
                    contract.info.description += `\n\nMany operations may answer ${shared.join("; ")}.`;
                    update(contract);
                },
            },
        },
    },
};

/** X-Request-ID, headers of every answer and the only server are for programs. */
const forProgramsOnly = {
    statePlugins: {
        spec: {
            wrapActions: {
                updateJsonSpec: (update) => (contract) => {
                    if (contract.servers?.every(({ url }) => url === "/")) {
                        delete contract.servers;
                    }
                    for (const operation of operationsOf(contract)) {
                        operation.parameters = operation.parameters.filter(({ $ref }) => !$ref);
                        for (const { headers } of Object.values(operation.responses)) {
                            for (const name of ["Cache-Control", "Vary", "X-Request-ID"]) {
                                delete headers?.[name];
                            }
                        }
                    }
                    update(contract);
                },
            },
        },
    },
};

/** Fill a value into every operation that takes it and whose path begins so. */
function fillIn({ specActions, specSelectors }, name, value, beginning = "/") {
    for (const operation of specSelectors.operations()) {
        const path = operation.get("path");
        const parameters = operation.getIn(["operation", "parameters"]);
        const parameter = parameters?.find((each) => each.get("name") === name);
        if (parameter && path.startsWith(beginning)) {
            const place = [path, operation.get("method")];
            specActions.changeParamByIdentity(place, parameter, value, false, "filled in");
        }
    }
}

/** The user of the token, or the user typed into one operation, is the user of all operations. */
const oneUser = {
    statePlugins: {
        spec: {
            wrapActions: {
                changeParamByIdentity:
                    (change, system) =>
                    (operation, parameter, value, isXml, isFilledIn) => {
                        change(operation, parameter, value, isXml);
                        if (parameter.get("name") === "user_id" && value && !isFilledIn) {
                            sessionStorage.setItem("user", value);
                            fillIn(system, "user_id", value);
                        }
                    },
            },
        },
        auth: {
            wrapActions: {
                authorize: (authorize, system) => (schemes) => {
                    authorize(schemes);
                    system.authActions.showDefinitions(false);
                    const user = userOf(Object.values(schemes)[0].value);
                    if (user !== undefined) {
                        sessionStorage.setItem("user", user);
                        fillIn(system, "user_id", user);
                    }
                },
            },
        },
    },
};

/** The user that a JWT names; other tokens name nobody. */
function userOf(token) {
    try {
        const claims = token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/");
        const bytes = Uint8Array.from(atob(claims), (each) => each.charCodeAt(0));
        return String(JSON.parse(new TextDecoder().decode(bytes))[page.userClaim] ?? "") || undefined;
    } catch {
        return undefined;
    }
}

/** The id of a new row goes into the operations that get, change and delete it. */
const newestIsFilledIn = {
    statePlugins: {
        spec: {
            wrapActions: {
                setResponse: (set, system) => (path, method, response) => {
                    set(path, method, response);
                    if (response.status === 201 && response.body?.id) {
                        const below = system.specSelectors
                            .operations()
                            .map((operation) => operation.get("path"))
                            .find((each) => each.startsWith(`${path}/{`));
                        const name = below?.slice(path.length).match(/{(.+?)}/)[1];
                        fillIn(system, name, response.body.id, path);
                    }
                },
            },
        },
    },
};

/** Execute leaves a stream after some seconds, and says so. */
const streamsEnd = {
    statePlugins: {
        spec: {
            wrapActions: {
                executeRequest: (execute, { oas3Selectors }) => (request) => {
                    const accepted = oas3Selectors.responseContentType(request.pathName, request.method);
                    const isStream = accepted === "text/event-stream";
                    return execute(isStream ? { ...request, userFetch: fetchBeginning } : request);
                },
            },
        },
    },
};

async function fetchBeginning(url, options) {
    const leaving = new AbortController();
    const answer = await fetch(url, { ...options, signal: leaving.signal });
    if (!answer.ok) {
        return answer;
    }
    let text = "";
    setTimeout(() => leaving.abort(), STREAM_SECONDS * 1000);
    try {
        for await (const piece of answer.body.pipeThrough(new TextDecoderStream())) {
            text += piece;
        }
    } catch {
        text += `: This is a stream without end. This page left it after ${STREAM_SECONDS} seconds.\n`;
    }
    return new Response(text, { status: answer.status, headers: answer.headers });
}

/** A long answer does not freeze the page. */
const longIsPlain = {
    wrapComponents: {
        SyntaxHighlighter: (Highlighter, { React }) => (properties) => {
            const text = properties.children;
            if (typeof text !== "string" || text.length <= MOST_COLOURED) {
                return React.createElement(Highlighter, properties);
            }
            const hidden = text.length - MOST_SHOWN;
            const end = hidden > 0 ? `\n… and ${hidden} characters more: Download has all.` : "";
            return React.createElement("pre", { className: "microlight" }, text.slice(0, MOST_SHOWN) + end);
        },
    },
};

/** An operation that is opened comes to the top, so that its Execute can be seen. */
const openedAtTheTop = {
    statePlugins: {
        layout: {
            wrapActions: {
                show: (show) => (thing, isShown) => {
                    show(thing, isShown);
                    if (isShown && thing[0] === "operations") {
                        setTimeout(() => document.getElementById(thing.join("-"))?.scrollIntoView());
                    }
                },
            },
        },
    },
};

const dark = matchMedia("(prefers-color-scheme: dark)");
const followSystem = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
dark.addEventListener("change", followSystem);
followSystem();

const ui = SwaggerUIBundle({
    url: page.contract,
    dom_id: "#swagger-ui",
    deepLinking: true,
    defaultModelsExpandDepth: 0,
    plugins: [
        errorsToldOnce,
        forProgramsOnly,
        oneUser,
        newestIsFilledIn,
        streamsEnd,
        longIsPlain,
        openedAtTheTop,
    ],
    tryItOutEnabled: true,
    validatorUrl: null,
    onComplete: () => {
        const system = ui.getSystem();
        fillIn(system, "user_id", sessionStorage.getItem("user") ?? "ada");
        fillIn(system, "limit", 20);
    },
});
