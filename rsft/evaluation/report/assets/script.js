"use strict";
{% for name in ("tables", "choice", "slider", "map", "gallery") %}
{
{% include "script/" ~ name ~ ".js" %}
}
{% endfor %}
