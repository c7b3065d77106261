"use strict";
{% for name in ("tables", "classes", "gallery") %}
{
{% include "script/" ~ name ~ ".js" %}
}
{% endfor %}
