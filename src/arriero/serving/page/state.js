"use strict";
const find = (id) => document.getElementById(id);
const [scroll, log, question, send, stop, panel, tip] = ["scroll", "log", "question", "send", "stop", "panel", "tip"].map(find);
const messages = [];      // {role, content}; an answer also has tokens [text, log-prob, [[text, log-prob]]] and facts
let served = [], key = "", running = null, explained = null;    // explained: the token whose tip is shown
