"""The documentation of the parameters and attributes that the two perceptrons share."""

_COMMON = """activation : {'identity', 'logistic', 'tanh', 'relu'}, str or Activation
        Of the hidden layers: also every activation of fastnn.
    solver : {'adam', 'sgd', 'lbfgs'}
        'lbfgs' is SciPy's L-BFGS-B on all rows, on the CPU.
    alpha : float
        The factor of the L2 penalty, alpha / 2 * sum w**2 / s for each batch, where s is the number of its rows, or the
        sum of their weights. Biases have none.
    batch_size : int or 'auto'
        'auto' is 200, or all rows if there are fewer. Not for 'lbfgs'.
    learning_rate : {'constant', 'invscaling', 'adaptive'}
        For 'sgd': 'invscaling' is ``learning_rate_init / (t_ + 1)**power_t`` after each epoch, 'adaptive' a fifth of
        the rate where the training would stop, until it is as small as 1e-6.
    learning_rate_init : float
    power_t : float
    max_iter : int
        The most epochs, or steps of 'lbfgs'.
    shuffle : bool
        Whether each epoch has an order of its own, by scikit-learn's random numbers.
    random_state : int, RandomState instance or None
        Decides initial weights, the order of the rows, the rows that `early_stopping` holds out, and dropout.
    tol : float
        What counts as an improvement of the loss, or of the score with `early_stopping`.
    verbose : bool, int or 'bar'
        True prints each epoch as scikit-learn does, 'bar' shows fastnn's bars.
    warm_start : bool
        Whether `fit` goes on with the weights of the last one. Other parameters may have been set since, but for
        `hidden_layer_sizes` and `batch_norm`; so they may between calls of `partial_fit`.
    momentum : float
    nesterovs_momentum : bool
    early_stopping : bool
        Whether a share of the rows is held out, whose score decides when to stop; the best weights are kept. 'lbfgs'
        holds none out: it needs X_val.
    validation_fraction : float
        That share.
    beta_1, beta_2, epsilon : float
        Of 'adam'.
    n_iter_no_change : int or inf
        The training stops after more epochs than this without an improvement.
    max_fun : int
        The most evaluations of 'lbfgs'."""
_OPTIMIZER = """
    optimizer : str or Optimizer, optional
        In the place of `solver`: any optimizer of fastnn, also with a schedule, clipping or averages. Each `fit` trains
        with a copy.
    dropout : float, or array-like of float
        The rate behind each hidden layer, or one for each.
    batch_norm : bool
        Whether hidden layers normalise by batches, before the activation.
    callbacks : Callback or list of Callback, optional
        Of fastnn. They see the epoch's "loss", and "val_score" where there is a validation set. An epoch of 'lbfgs' is
        one step, which may evaluate the loss several times; it has no learning rate.
    dtype : {'auto', 'float32', 'float64'}
        'auto' follows X, as scikit-learn does: float32 for float32, else float64.
    device : str
        Where to train and predict: "cpu", or "cuda" for an NVIDIA GPU.
    n_threads : int, optional
        By default all, or a share where joblib runs several estimators. Results do not depend on it.
"""
_ATTRIBUTES = """
    coefs_, intercepts_ : list of ndarray
        The weights, of shape (n_in, n_out), and biases, of shape (n_out,), of each layer: those that predict, in place.
    loss_ : float
        Of the last epoch.
    best_loss_ : float or None
        The smallest; None with `early_stopping`.
    loss_curve_ : list of float
    validation_scores_ : list of float or None
        Of each epoch, where there is a validation set.
    validation_loss_curve_ : list of float or None
        The losses of X_val, without the penalty, where it was given.
    best_validation_score_ : float or None
        With `early_stopping`.
    n_iter_ : int
        Epochs, or steps of 'lbfgs'.
    t_ : int
        Rows that have been trained on.
    n_features_in_, n_layers_, n_outputs_ : int
    feature_names_in_ : ndarray of str
        Of a frame.
    out_activation_ : {'softmax', 'logistic', 'identity', 'exp'}
"""
_NOTES = """
    Notes
    -----
    Initial weights, the order of the rows and each step are scikit-learn's, so with equal arguments losses and weights
    agree with those of its estimator up to rounding. A difference: a loss of several outputs is minimised by 'lbfgs' as
    the sum that its gradient belongs to; scikit-learn gives the minimizer a mean with the gradient of a sum. Sparse
    data are made dense, a batch at a time if they are large.
"""

CLASSIFIER = f"""
    Parameters
    ----------
    hidden_layer_sizes : array-like of int, or int
        The units of each hidden layer.
    {_COMMON}
    loss : 'log_loss', str or Loss
        'log_loss', or any loss of fastnn, of probabilities: those of two classes are one column, where cross-entropy is
        the log loss. ``from_logits`` does not matter.
    class_weight : dict, list of dict, 'balanced' or None
        The weights of classes, multiplied into those of samples, as in scikit-learn's other classifiers.{_OPTIMIZER}
    Attributes
    ----------
    classes_ : ndarray{_ATTRIBUTES}{_NOTES}
    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from fastnn.sklearn import MLPClassifier
    >>> X, y = load_digits(return_X_y=True)
    >>> classifier = MLPClassifier(dropout=0.2, class_weight="balanced", random_state=0).fit(X[:1200], y[:1200])
    >>> classifier.score(X[1200:], y[1200:]) > 0.9
    True
    """

REGRESSOR = f"""
    Parameters
    ----------
    loss : 'squared_error', 'poisson', str or Loss
        Half the squared error, half the Poisson deviance of outputs that are exponentials, or any loss of fastnn. It
        decides the outputs: 'binary_cross_entropy' is for numbers from 0 to 1, 'cross_entropy' for rows that sum to 1.
    hidden_layer_sizes : array-like of int, or int
        The units of each hidden layer.
    {_COMMON}{_OPTIMIZER}
    Attributes
    ----------{_ATTRIBUTES}{_NOTES}
    Examples
    --------
    >>> from sklearn.datasets import make_regression
    >>> from fastnn.sklearn import MLPRegressor
    >>> X, y = make_regression(500, 10, random_state=0)
    >>> MLPRegressor(hidden_layer_sizes=64, solver="lbfgs", max_iter=500, random_state=0).fit(X, y).score(X, y) > 0.99
    True
    """
